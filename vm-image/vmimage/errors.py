"""The one exception that a user sees as a message and not as a traceback."""


class BuildError(Exception):
    """Why the image cannot be built. The message names the file or package at fault."""
