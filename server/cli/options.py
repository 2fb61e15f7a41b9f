"""Settings as options of a command: each a string that `server.config` reads, as it would from the environment."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from pydantic.fields import FieldInfo

from server.config import StoreSettings, option, read_settings, shown_default, variable

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=StoreSettings)

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


def takes_settings(kind: type[S], names: Iterable[str] | None = None) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command, whose first parameter is `settings`, an option for each setting of `kind` (or of these names)."""
    settings = {name: kind.model_fields[name] for name in names or kind.model_fields if option(name)}

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        def run(**values: Any) -> R:
            given = {name: values.pop(name) for name in settings}
            chosen = {name: value for name, value in given.items() if value is not None}
            return command(read_settings(kind, chosen), **values)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        parameters += [_parameter(name, info) for name, info in settings.items()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return decorate


def _parameter(name: str, info: FieldInfo) -> inspect.Parameter:
    flag = option(name)
    assert flag is not None, "secrets are no options"
    default = shown_default(info)
    described = f"{info.description} ({variable(name)}{f', default {default}' if default else ''})"
    annotation: Any
    if info.annotation is bool:
        annotation = Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=described)]
    else:
        annotation = Annotated[str | None, typer.Option(flag, help=described, metavar="VALUE")]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
