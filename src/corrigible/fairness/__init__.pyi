# Written by tools/build_index.py from the cards.

