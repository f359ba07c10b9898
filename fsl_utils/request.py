"""A request: a frozen dataclass of all that determines a stored thing, and so its key."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from fsl_utils import store


class Request:
    """What every request has; a stage's own adds its fields and `params`."""

    stage: ClassVar[str]

    def params(self) -> dict:
        """All that determines the thing, as plain JSON values; the key is its hash."""
        raise NotImplementedError

    @cached_property
    def key(self) -> str:
        """Hex SHA-256 that names the thing."""
        return store.key(self.stage, self.params())

    @property
    def place(self) -> Path:
        """Where the thing lies or would lie."""
        return store.root() / self.stage / self.key

    def find(self) -> Path | None:
        """Folder of the finished, undamaged thing, or None."""
        return store.find(self.stage, self.params())

    def make(self, build, **context) -> Path:
        """The finished folder; `build(folder)` is called only where it is not there."""
        return store.make(self.stage, self.params(), build, **context)
