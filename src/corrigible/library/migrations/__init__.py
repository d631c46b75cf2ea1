"""Alembic migrations of the library's database."""
