"""Imports a plugin's module when it is first chosen, asks its hook, and believes nothing that it says unchecked.

Each module has a plugin manager of its own, so what is wrong with one is in the way of no other. A plugin that was
loaded stays; one that failed is tried again when it is next asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, cast

import pluggy

from redicts.core import hooks
from redicts.core.backend import Backend, BackendPlugin
from redicts.core.codec import CodecPlugin
from redicts.errors import PluginBroken, PluginMissing, SettingsError
from redicts.plugins import discovery
from redicts.plugins.discovery import OURS, Source
from redicts.plugins.kinds import BACKEND, CODEC
from redicts.plugins.suggestions import suggestion

loaded: Final[dict[Source, BackendPlugin | CodecPlugin]] = {}
"""The plugins that were chosen so far."""


def backend_plugin(name: str) -> BackendPlugin:
    """Return the backend of this name.

    Raises :class:`~redicts.errors.PluginMissing` or :class:`~redicts.errors.PluginBroken`, which name the distribution.
    """
    return cast("BackendPlugin", load(discovery.find(BACKEND, name)))


def codec_plugin(name: str) -> CodecPlugin:
    """Return the codec of this name. Raises as :func:`backend_plugin` does."""
    return cast("CodecPlugin", load(discovery.find(CODEC, name)))


def from_client(client: object) -> Backend:
    """Return a backend for the store that a client object of the user's is connected to.

    Every backend that was loaded is asked, and those of ours that bear the name of the package which the client comes
    from. Raises :class:`~redicts.errors.SettingsError` if it is no client that one of them knows.
    """
    packages = {base.__module__.partition(".")[0] for base in type(client).__mro__}
    candidates = [source for name, source in discovery.builtin(BACKEND).items() if name in packages]
    candidates += [source for source in loaded if source.kind is BACKEND and source not in candidates]
    for source in candidates:
        from_client = cast("BackendPlugin", load(source)).from_client
        if from_client is None:
            continue
        try:
            backend = from_client(client)
        except SettingsError:
            raise
        except Exception as error:
            failed = type(error).__name__
        else:
            if backend is None:
                continue
            if isinstance(backend, Backend):
                return backend
            failed = f"it returned {type(backend).__name__}, not a Backend"
        # Raised here, not above: the client that its error may show can hold a password.
        raise PluginBroken(f"the {source} cannot take over a {type(client).__name__}: {failed}; {_remedy(source)}")
    raise SettingsError(
        f"{type(client).__name__} leads to no store; give a Proxy, the Pool, a backend, or a client of redis-py"
    )


def load(source: Source) -> BackendPlugin | CodecPlugin:
    """Return the plugin that a source offers. Raises :class:`~redicts.errors.PluginBroken` if it is not usable.

    One of ours that needs a package which is not installed raises :class:`~redicts.errors.PluginMissing`.
    """
    plugin = loaded.get(source)
    if plugin is None:
        plugin = loaded[source] = _checked(source, _asked(source, _imported(source)))
    return plugin


def _imported(source: Source) -> Any:
    module, _, attributes = source.value.partition(":")
    try:
        found: Any = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if source.builtin and source.name in _extras():
            raise PluginMissing(
                f"the {source} cannot be used here: {error}; "
                f"install the missing package with: pip install 'redicts[{source.name}]'"
            ) from error
        if error.name == module.strip():
            raise _broken(source, f"its module {error.name} is not there") from error
        raise _broken(source, _said(error), f"install that package, or {_remedy(source)}") from error
    except BaseException as error:  # a module that ends the program when it is imported is broken too
        raise _broken(source, f"importing {source.value} failed with {_said(error)}") from error


def _asked(source: Source, module: Any) -> list[Any]:
    """Return all that the module's hook returns."""
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    hook = source.kind.hook
    try:
        manager.register(module, name=source.value)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise _broken(source, _wrong_hook(str(error))) from error
    except Exception as error:
        raise _broken(source, f"{source.value} is no plugin: {_said(error)}") from error
    try:
        answers = getattr(manager.hook, hook)()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _broken(source, f"its hook {hook} failed with {_said(error)}") from error
    if not answers:
        raise _broken(source, f"{source.value} has no function {hook} marked with @hookimpl")
    offered: list[Any] = []
    for answer in answers:
        if not isinstance(answer, Sequence) or isinstance(answer, (str, bytes)):
            raise _broken(source, f"its hook {hook} returned {_a(answer)}, not a list of {source.kind.plugin.__name__}")
        offered += answer
    return offered


def _checked(source: Source, offered: list[Any]) -> BackendPlugin | CodecPlugin:
    """Return the one that bears the name, if all that it says of itself can be true."""
    kind = source.kind
    for each in offered:
        if not isinstance(each, kind.plugin):
            raise _broken(source, f"its hook {kind.hook} returned a list with {_a(each)}, not {kind.plugin.__name__}")
    named = [each for each in offered if each.name == source.name]
    if len(named) != 1:
        names = ", ".join(repr(each.name) for each in offered) or "nothing"
        raise _broken(source, f"its entry point is named {source.name!r}, but its hook {kind.hook} offers {names}")
    plugin: BackendPlugin | CodecPlugin = named[0]
    if type(plugin.contract) is not int:
        raise _broken(source, f"the contract that it is written for is {_a(plugin.contract)}, not a number")
    if plugin.contract != hooks.CONTRACT:
        older = OURS if plugin.contract > hooks.CONTRACT else source.distribution
        raise PluginBroken(
            f"the {source} is written for contract {plugin.contract}; this redicts speaks {hooks.CONTRACT}; "
            f"upgrade {older}"
        )
    if not (isinstance(plugin.settings, type) and issubclass(plugin.settings, kind.settings)):
        raise _broken(source, f"its settings are no subclass of {kind.settings.__name__}")
    if "name" in plugin.settings.model_fields:
        raise _broken(source, "its settings have a field 'name', which is where its own name goes; rename the field")
    if not callable(plugin.open):
        raise _broken(source, f"its open is {_a(plugin.open)}, and cannot be called")
    if isinstance(plugin, BackendPlugin) and plugin.from_client is not None and not callable(plugin.from_client):
        raise _broken(source, f"its adopt is {_a(plugin.from_client)}, and cannot be called")
    return plugin


def _broken(source: Source, why: str, remedy: str = "") -> PluginBroken:
    return PluginBroken(f"the {source} cannot be used here: {why}; {remedy or _remedy(source)}")


def _remedy(source: Source) -> str:
    owner = f"reinstall {OURS}" if source.builtin else f"upgrade or uninstall {source.distribution}"
    return f"{owner}, or choose another {source.kind.word}"


def _said(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _a(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _wrong_hook(message: str) -> str:
    """Return what pluggy says of a hook, in one line, and the right name of one that it does not know."""
    unknown = re.match(r"unknown hook '(\w+)'", message)
    if unknown:
        known = [hooks.redicts_backends.__name__, hooks.redicts_codecs.__name__]
        return f"there is no hook {unknown[1]!r}; {suggestion(unknown[1], known)}"
    return " ".join(line.strip() for line in message.splitlines())


def _extras() -> set[str]:
    """Return the names that ``pip install 'redicts[name]'`` knows."""
    from importlib import metadata  # noqa: PLC0415  (for an error only)

    try:
        return set(metadata.metadata(OURS).get_all("Provides-Extra") or ())
    except metadata.PackageNotFoundError:
        return set()
