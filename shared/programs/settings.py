"""Reading a program's settings: a TOML file, overridden by the environment; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, TomlConfigSettingsSource

from shared.errors import ConfigurationError

S = TypeVar("S", bound=BaseSettings)


def read_settings(kind: type[S], path: Path, init: str) -> S:
    """Read the settings in a file that the command `init` makes. Raises ConfigurationError naming each wrong key."""
    if not path.is_file():
        raise ConfigurationError(f"{path} is missing: run `{init}`")
    try:
        return kind(**{**TomlConfigSettingsSource(kind, path)(), **EnvSettingsSource(kind)()})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigurationError(f"{path}: {wrong}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} isn't TOML: {error}") from error
