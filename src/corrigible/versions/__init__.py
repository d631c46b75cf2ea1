"""Two versions of a model on the same rows: what broke, what mended, what it costs, and whether to go on."""

from corrigible.versions._compare import compare_versions
from corrigible.versions._report import VersionReport

__all__ = ["VersionReport", "compare_versions"]
