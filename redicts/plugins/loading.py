"""Loads a plugin when it is first chosen: imports its module, calls its hook, and checks what the hook returns.

One plugin manager holds the modules of all plugins. A module that is broken is unregistered at once, so it affects no
other plugin, and loading it is tried again when it is next chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from inspect import isroutine
from typing import TYPE_CHECKING, Any, Final, cast

from redicts.core.backend import Backend, BackendPlugin
from redicts.core.codec import CodecPlugin
from redicts.core.entry_points import CONTRACT, PROJECT
from redicts.errors import PluginBroken, PluginMissing, SettingsError
from redicts.forks import ForkSafeLock
from redicts.plugins import discovery
from redicts.plugins.discovery import OURS, Source
from redicts.plugins.kinds import BACKEND, CODEC, KINDS
from redicts.plugins.suggestions import suggestion

if TYPE_CHECKING:
    from pluggy import PluginManager

    from redicts.core.plugin_settings import BackendSettings, CodecSettings

loaded: Final[dict[Source, BackendPlugin | CodecPlugin]] = {}
"""The plugins that were loaded so far."""

_registering: Final = ForkSafeLock()


def backend_plugin(name: str) -> BackendPlugin:
    """Return the backend of this name.

    Raises :class:`~redicts.errors.PluginMissing` or :class:`~redicts.errors.PluginBroken`, which name the distribution.
    """
    return cast("BackendPlugin", load(discovery.find(BACKEND, name)))


def codec_plugin(name: str) -> CodecPlugin:
    """Return the codec of this name. Raises as :func:`backend_plugin` does."""
    return cast("CodecPlugin", load(discovery.find(CODEC, name)))


def backend_model(name: str) -> type[BackendSettings]:
    """Return the model of a backend's settings. Raises as :func:`backend_plugin` does."""
    return cast("type[BackendSettings]", _model(discovery.find(BACKEND, name)))


def codec_model(name: str) -> type[CodecSettings]:
    """Return the model of a codec's settings. Raises as :func:`backend_plugin` does."""
    return cast("type[CodecSettings]", _model(discovery.find(CODEC, name)))


def from_client(client: object) -> Backend:
    """Return a backend for the store to which a user's client object is connected.

    It asks each loaded backend, and the built-in one that is named like the package of the client's class. Raises
    :class:`~redicts.errors.SettingsError` if none of them knows the client.
    """
    packages = {base.__module__.partition(".")[0] for base in type(client).__mro__}
    candidates = [source for name, source in discovery.builtin(BACKEND).items() if name in packages]
    candidates += [source for source in loaded if source.kind is BACKEND and source not in candidates]
    for source in candidates:
        open_store = cast("BackendPlugin", load(source)).from_client
        backend = None if open_store is None else _answer(source, client, partial(open_store, client))
        if isinstance(backend, Backend):
            return backend
        if backend is not None:
            raise _cannot_open(source, client, f"it returned {type(backend).__name__}, not a Backend")
    raise _leads_nowhere(client)


def is_client_of(client: object, backend: str, options: object, number: int) -> bool:
    """Return whether a client must use a database that these options and the number describe. See BackendPlugin."""
    source = discovery.find(BACKEND, backend)
    is_client = cast("BackendPlugin", load(source)).is_client_of
    return is_client is not None and bool(_answer(source, client, partial(is_client, client, options, number)))


def _answer(source: Source, client: object, ask: Callable[[], object]) -> object:
    """Return what the function of a plugin returns for a client."""
    try:
        return ask()
    except SettingsError:
        raise
    except Exception as error:
        failed = type(error).__name__
    # Raised here and not above: the plugin's error may show the client, which may hold a password.
    raise _cannot_open(source, client, failed)


def _cannot_open(source: Source, client: object, why: str) -> PluginBroken:
    return PluginBroken(f"the {source} cannot open the store of a {type(client).__name__}: {why}; {_remedy(source)}")


def _leads_nowhere(client: object) -> SettingsError:
    """Return the refusal of an object of a class that no backend knows. It shows no more of the object than that."""
    kind = type(client)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    instead = "give a Proxy, the Pool, a Database, an opened backend, or a client of redis-py such as redis.Redis"
    if isinstance(client, type):
        return SettingsError(f"the class {client.__name__} leads to no store, but an object of it may; {instead}")
    if hasattr(kind, "__aenter__") and not hasattr(kind, "__enter__"):
        return SettingsError(
            f"a client must be a blocking one; {name} is for asyncio; {instead}; for a lock to await, give it to "
            "redicts.aio.Lock"
        )
    return SettingsError(f"{name} leads to no store; {instead}")


def load(source: Source) -> BackendPlugin | CodecPlugin:
    """Return the plugin that a source offers.

    Raises :class:`~redicts.errors.PluginBroken` if it cannot be used, and :class:`~redicts.errors.PluginMissing` if it
    is built in and needs a package that is not installed.
    """
    plugin = loaded.get(source)
    if plugin is None:
        plugin = loaded[source] = _registered(source, _imported(source))
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
            raise _broken(source, f"its module {error.name} does not exist") from error
        raise _broken(source, _described(error), f"install that package, or {_remedy(source)}") from error
    except BaseException as error:  # a module that raises SystemExit is broken too
        raise _broken(source, f"importing {source.value} failed with {_described(error)}") from error


class _Hooks:
    """The hook implementations of one module, as pluggy gets to see them.

    pluggy compares the objects that it holds with each other. These are compared by identity, whereas an entry point
    may name an object of any class, whose comparison could then affect other plugins.
    """

    def __init__(self, module: object) -> None:
        for name in dir(module):
            value = getattr(module, name, None)
            if isroutine(value) and hasattr(value, f"{PROJECT}_impl"):
                setattr(self, name, value)


@cache
def _manager() -> PluginManager:
    """Return the plugin manager of this process."""
    from pluggy import PluginManager  # noqa: PLC0415  (with the first plugin)

    from redicts.plugins import hookspecs  # noqa: PLC0415

    manager = PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _registered(source: Source, module: object) -> BackendPlugin | CodecPlugin:
    """Register a module and return the plugin that its hook offers; unregister the module if anything is wrong."""
    try:
        hooks = _Hooks(module)
        functions = _register(hooks, source.kind.hook)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _broken(source, f"{source.value} cannot be registered: {_wrong_hook(error)}") from error
    try:
        return _checked(source, _offered(source, functions))
    except BaseException:
        with _registering:
            _manager().unregister(hooks)
        raise


def _register(hooks: _Hooks, name: str) -> list[Callable[[], object]]:
    """Register the hooks of a module and return those with this name. Nothing stays registered if pluggy refuses."""
    with _registering:
        manager = _manager()
        try:
            manager.register(hooks)
            manager.check_pending()
        except BaseException:
            if manager.is_registered(hooks):
                manager.unregister(hooks)
            raise
        return [each.function for each in getattr(manager.hook, name).get_hookimpls() if each.plugin is hooks]


def _offered(source: Source, functions: Sequence[Callable[[], object]]) -> list[Any]:
    """Return all that the hook of a module returns."""
    hook = source.kind.hook
    if not functions:
        raise _broken(source, f"{source.value} has no function {hook} decorated with @hookimpl")
    offered: list[Any] = []
    for function in functions:
        try:
            answer = function()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _broken(source, f"its hook {hook} failed with {_described(error)}") from error
        if not isinstance(answer, Sequence) or isinstance(answer, (str, bytes)):
            raise _broken(source, f"its hook {hook} returned {_a(answer)}, not a list of {source.kind.plugin.__name__}")
        offered += answer
    for each in offered:
        if not isinstance(each, source.kind.plugin):
            raise _broken(source, f"its hook {hook} returned a list with {_a(each)}, not {source.kind.plugin.__name__}")
    return offered


def _checked(source: Source, offered: list[Any]) -> BackendPlugin | CodecPlugin:
    """Return the plugin that has the name of the entry point, after checking its fields."""
    kind = source.kind
    named = [each for each in offered if each.name == source.name]
    if len(named) != 1:
        names = ", ".join(repr(each.name) for each in offered) or "nothing"
        raise _broken(source, f"its entry point is named {source.name!r}, but its hook {kind.hook} offers {names}")
    plugin: BackendPlugin | CodecPlugin = named[0]
    if type(plugin.contract) is not int:
        raise _broken(source, f"its contract must be a number, not {_a(plugin.contract)}")
    if plugin.contract != CONTRACT:
        older = OURS if plugin.contract > CONTRACT else source.distribution
        raise PluginBroken(
            f"the {source} is written for contract {plugin.contract}, but this redicts supports contract {CONTRACT}; "
            f"upgrade {older}"
        )
    if plugin.settings is not None and not isinstance(plugin.settings, str):
        _check_model(source, plugin.settings)
    functions: dict[str, object] = {"open": plugin.open}
    if isinstance(plugin, BackendPlugin):
        optional = {"from_client": plugin.from_client, "is_client_of": plugin.is_client_of, "plain": plugin.plain}
        functions |= {field: value for field, value in optional.items() if value is not None}
    for field, value in functions.items():
        if not callable(value):
            raise _broken(source, f"its {field} must be callable, not {_a(value)}")
    return plugin


def _model(source: Source) -> type[BackendSettings] | type[CodecSettings]:
    """Return the model of a plugin's settings. One that is given as text is imported here, and checked."""
    plugin = load(source)
    if not isinstance(plugin.settings, str):
        return plugin.model
    try:
        model = plugin.model
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _broken(source, f"importing {plugin.settings} failed with {_described(error)}") from error
    _check_model(source, model)
    return model


def _check_model(source: Source, model: object) -> None:
    from redicts.core import plugin_settings  # noqa: PLC0415  (it imports pydantic)

    base = plugin_settings.BackendSettings if source.kind is BACKEND else plugin_settings.CodecSettings
    if not (isinstance(model, type) and issubclass(model, base)):
        raise _broken(source, f"its settings must be a subclass of {base.__name__}")
    if "name" in model.model_fields:
        raise _broken(source, "its settings have a field 'name', which is reserved for the plugin's name; rename it")


def _broken(source: Source, why: str, remedy: str = "") -> PluginBroken:
    return PluginBroken(f"the {source} cannot be used here: {why}; {remedy or _remedy(source)}")


def _remedy(source: Source) -> str:
    owner = f"reinstall {OURS}" if source.builtin else f"upgrade or uninstall {source.distribution}"
    return f"{owner}, or choose another {source.kind.noun}"


def _described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _a(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _wrong_hook(error: BaseException) -> str:
    """Return in one line why pluggy refused a module, with a suggestion for a hook that is not known."""
    from pluggy import PluginValidationError  # noqa: PLC0415  (only for an error)

    if not isinstance(error, PluginValidationError):
        return _described(error)
    unknown = re.match(r"unknown hook '(\w+)'", str(error))
    if unknown:
        return f"there is no hook {unknown[1]!r}; {suggestion(unknown[1], [kind.hook for kind in KINDS])}"
    # The first line has pluggy's own name of the plugin.
    return " ".join(line.strip() for line in str(error).splitlines()[1:])


def _extras() -> set[str]:
    """Return the names of the extras of redicts, as in ``pip install 'redicts[name]'``."""
    from importlib import metadata  # noqa: PLC0415  (only for an error)

    try:
        return set(metadata.metadata(OURS).get_all("Provides-Extra") or ())
    except metadata.PackageNotFoundError:
        return set()
