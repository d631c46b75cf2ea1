"""The local web page: papers, what was measured of their claims, and methods that run from a button."""

from corrigible.web._app import create_app
from corrigible.web._serve import serve

__all__ = ["create_app", "serve"]
