from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.config import DaemonConfig
from luna_collection.luna_daemon.config_sources import (
    Settings,
    add_flags,
    default_config_file,
    parse,
    print_config,
    resolve,
    settings_table,
)
from luna_collection.luna_daemon.errors import ConfigError

FIELDS = [item.name for item in dataclasses.fields(DaemonConfig)]
SEP = os.pathsep


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a settings file of their own."""
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "no-config"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a settings file may be written."""
    return tmp_path / "luna.yaml"


def flags(*args: str) -> dict[str, object]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    given_flags = vars(parser.parse_args(args))
    given_flags.pop("config")
    return given_flags


def from_flags(*args: str) -> DaemonConfig:
    return resolve(flags(*args), {}).config


def from_env(**variables: str) -> DaemonConfig:
    return resolve({}, variables).config


def from_file(file: Path, text: str) -> DaemonConfig:
    file.write_text(text, "utf-8")
    return resolve({}, {}, file).config


SOURCES = {
    "default": ({}, {}, "", 19283, "default"),
    "file": ({}, {}, "port: 1", 1, "file {}"),
    "environment over file": ({}, {"LUNA_PORT": "2"}, "port: 1", 2, "environment LUNA_PORT"),
    "command line over file": ({"port": 3}, {}, "port: 1", 3, "command line"),
    "command line over environment": ({"port": 3}, {"LUNA_PORT": "2"}, "", 3, "command line"),
    "command line over all": ({"port": 3}, {"LUNA_PORT": "2"}, "port: 1", 3, "command line"),
}


@pytest.mark.parametrize(
    ("given_flags", "env", "text", "port", "origin"), SOURCES.values(), ids=SOURCES.keys()
)
def test_the_nearest_source_wins_and_is_named(
    file: Path, given_flags: dict, env: dict, text: str, port: int, origin: str
) -> None:
    file.write_text(text, "utf-8")
    settings = resolve(given_flags, env, file)
    assert (settings.config.port, settings.origins["port"]) == (port, origin.format(file))


def test_every_setting_has_an_origin() -> None:
    assert resolve({}, {}).origins == dict.fromkeys(FIELDS, "default")


def test_sources_are_merged_setting_by_setting(file: Path) -> None:
    file.write_text("max_batch: 4\nmax_queue: 5", "utf-8")
    config = resolve({"max_queue": 6}, {"LUNA_ARENA_MB": "7"}, file).config
    assert (config.max_batch, config.max_queue, config.arena_mb) == (4, 6, 7)


def test_without_any_source_all_settings_are_the_defaults() -> None:
    assert resolve({}, {}).config == DaemonConfig()


def test_the_environment_of_the_process_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNA_MAX_BATCH", "3")
    assert resolve().config.max_batch == 3


def test_other_variables_of_the_environment_are_ignored() -> None:
    assert from_env(PORT="1", LUNATIC="2", luna_port="3") == DaemonConfig()


def test_the_environment_may_name_the_file(file: Path) -> None:
    file.write_text("port: 1", "utf-8")
    settings = resolve({}, {"LUNA_CONFIG": str(file)})
    assert (settings.config.port, settings.origins["port"]) == (1, f"file {file}")


def test_a_file_of_the_command_line_is_used_instead_of_the_environments(
    file: Path, tmp_path: Path
) -> None:
    file.write_text("port: 1", "utf-8")
    other = tmp_path / "other.yaml"
    other.write_text("max_batch: 2", "utf-8")
    assert resolve({}, {"LUNA_CONFIG": str(other)}, file).config == DaemonConfig(port=1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another default place")
def test_the_file_in_the_default_place_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_config_file() == tmp_path / "luna-daemon" / "luna.yaml"
    default_config_file().parent.mkdir()
    default_config_file().write_text("port: 1", "utf-8")
    assert resolve({}, {}).origins["port"] == f"file {default_config_file()}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another default place")
def test_without_xdg_the_default_place_is_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_config_file() == tmp_path / ".config" / "luna-daemon" / "luna.yaml"


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "---\n"], ids=repr)
def test_an_empty_file_says_nothing(file: Path, text: str) -> None:
    assert from_file(file, text) == DaemonConfig()


def test_a_file_that_was_named_has_to_be_there(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        resolve({}, {}, file)
    assert str(file) in refused.value.message


def test_a_file_that_the_environment_names_has_to_be_there(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        resolve({}, {"LUNA_CONFIG": str(file)})
    assert str(file) in refused.value.message


@pytest.mark.parametrize(
    "content",
    [b"port: [1", b"\tport: 1", b"a: b: c", b"\xff\xfe\x00", b"port: !!python/object:os.system x"],
    ids=["open bracket", "tab", "two colons", "no UTF-8", "Python object"],
)
def test_a_broken_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        resolve({}, {}, file)
    assert str(file) in refused.value.message


@pytest.mark.parametrize("text", ["- port", "just words", "17", "true"], ids=repr)
def test_a_file_that_holds_no_settings_is_refused(file: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_file(file, text)
    assert refused.value.message == (
        f"The settings file {file} must hold lines of the form 'name: value'."
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve({}, {}, tmp_path)


def test_an_unknown_setting_in_the_file_is_refused_with_a_suggestion(file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        from_file(file, "clip_devise: cpu")
    assert str(refused.value) == (
        f"{file}: unknown setting 'clip_devise'. Did you mean 'clip_device'?"
    )


def test_an_unknown_setting_in_the_environment_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError) as refused:
        from_env(LUNA_CLIP_DEVISE="cpu")
    assert str(refused.value) == (
        "environment: unknown setting 'LUNA_CLIP_DEVISE'. Did you mean 'LUNA_CLIP_DEVICE'?"
    )


def test_an_unknown_setting_like_no_other_gets_a_general_hint(file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        from_file(file, "xyzzy: 1")
    assert str(refused.value) == f"{file}: unknown setting 'xyzzy'. Run with --help for the list."


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        flags("--no-such-flag", "1")


@pytest.mark.parametrize("key", ["1", "true", "null"])
def test_a_name_that_is_no_text_is_an_unknown_setting(file: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting"):
        from_file(file, f"? {key}\n: 1")


WRONG = {
    "whole number": ("port", "abc", "a whole number"),
    "fraction": ("port", "1.5", "a whole number"),
    "number": ("connect_timeout_s", "soon", "a number"),
    "NaN": ("connect_timeout_s", "nan", "a number"),
    "infinity": ("connect_timeout_s", "inf", "a number"),
    "list without a number": ("device_budgets_gb", "cuda:0", "a list like 'cuda:0=10,cpu=16'"),
    "list with a word": ("device_budgets_gb", "cpu=much", "a list like 'cuda:0=10,cpu=16'"),
    "list with NaN": ("device_budgets_gb", "cpu=nan", "a list like 'cuda:0=10,cpu=16'"),
}
every_wrong_value = pytest.mark.parametrize(
    ("name", "value", "kind"), WRONG.values(), ids=WRONG.keys()
)


@every_wrong_value
def test_a_wrong_value_in_the_environment_names_source_and_value(
    name: str, value: str, kind: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        from_env(**{f"LUNA_{name.upper()}": value})
    assert refused.value.message == f"LUNA_{name.upper()} is '{value}', which is not {kind}."


@every_wrong_value
def test_a_wrong_value_in_the_file_names_source_and_value(
    file: Path, name: str, value: str, kind: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        from_file(file, f"{name}: {value}")
    assert refused.value.message == f"{file}: {name} is '{value}', which is not {kind}."


@every_wrong_value
def test_a_wrong_value_on_the_command_line_names_source_and_value(
    name: str, value: str, kind: str
) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(argparse.ArgumentError) as refused:
        flags(flag, value)
    assert f"{flag} is '{value}', which is not {kind}." in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("port: [1, 2]", "port must be a whole number."),
        ("port: {a: 1}", "port must be a whole number."),
        ("host: [a]", "host must be a text."),
        ("connect_timeout_s: {a: 1}", "connect_timeout_s must be a number."),
        ("model_roots: {a: b}", "model_roots must be a text."),
        ("device_budgets_gb: [1]", "device_budgets_gb must be a list like 'cuda:0=10,cpu=16'."),
        ("port: true", "port is 'True', which is not a whole number."),
        ("port:", "port is '', which is not a whole number."),
        ("connect_timeout_s: .nan", "connect_timeout_s is 'nan', which is not a number."),
        ("connect_timeout_s: .inf", "connect_timeout_s is 'inf', which is not a number."),
    ],
)
def test_a_yaml_value_of_another_shape_is_refused(file: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_file(file, text)
    assert refused.value.message == f"{file}: {sentence}"


OUT_OF_RANGE = {
    "port too low": ({"port": -1}, "port is -1", "at least 0"),
    "port too high": ({"port": 65536}, "port is 65536", "at most 65535"),
    "no batch": ({"max_batch": 0}, "max_batch is 0", "at least 1"),
    "huge batch": ({"max_batch": 257}, "max_batch is 257", "at most 256"),
    "no queue": ({"max_queue": 0}, "max_queue is 0", "at least 1"),
    "no arena": ({"arena_mb": 0}, "arena_mb is 0", "at least 1"),
    "no time": ({"connect_timeout_s": 0.0}, "connect_timeout_s is 0.0", "at least 0.1"),
    "negative time": ({"lease_grace_s": -0.5}, "lease_grace_s is -0.5", "at least 0"),
    "NaN": ({"lease_grace_s": float("nan")}, "lease_grace_s is nan", "at least 0"),
    "negative budget": ({"device_budgets_gb": {"cpu": -1.0}}, "device_budgets_gb is -1.0", "at least 0"),
    "engine": ({"engine": "onnx"}, "engine is 'onnx'", "one of auto, comfy, hf"),
    "precision": ({"vae_precision": "fp4"}, "vae_precision is 'fp4'", "one of auto, fp32, fp16, bf16, file"),
    "empty choice": ({"log_level": ""}, "log_level is ''", "one of debug, info, warning, error"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "what", "bound"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE.keys()
)
def test_a_value_out_of_range_is_refused(values: dict, what: str, bound: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DaemonConfig(**values)
    assert refused.value.message == f"{what}; it must be {bound}."


def test_a_value_out_of_range_names_its_source(file: Path) -> None:
    file.write_text("max_batch: 0", "utf-8")
    sources = {
        "environment LUNA_PORT": ({}, {"LUNA_PORT": "-1"}, None),
        f"file {file}": ({}, {}, file),
        "command line": ({"log_level": "loud"}, {}, None),
    }
    for origin, (given_flags, env, path) in sources.items():
        with pytest.raises(ConfigError) as refused:
            resolve(given_flags, env, path)
        assert f"({origin})" in refused.value.message


def test_a_choice_that_is_none_is_refused_on_the_command_line() -> None:
    with pytest.raises(argparse.ArgumentError, match="invalid choice: 'onnx'"):
        flags("--engine", "onnx")


@pytest.mark.parametrize("pool", ["clip", "vae"])
def test_no_fewer_workers_may_be_allowed_than_are_kept(pool: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DaemonConfig(**{f"min_{pool}_workers": 3, f"max_{pool}_workers": 2})
    assert refused.value.message == f"min_{pool}_workers is 3, more than max_{pool}_workers, 2."


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "", "example.com"])
def test_a_host_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_env(LUNA_HOST=host)
    assert refused.value.message == f"host is '{host}'; the daemon listens on this machine only."


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_a_loopback_host_is_accepted(host: str) -> None:
    assert from_env(LUNA_HOST=host).host == host


ROOTS = (Path("/models/a"), Path("/models/b c"))
BUDGETS = {"cuda:0": 10.0, "cpu": 0.5}
VALUES = {
    "text": ("device", "cuda:1", "device: cuda:1", "cuda:1"),
    "empty text": ("clip_device", "", "clip_device: ''", ""),
    "nothing for a text": ("clip_device", "", "clip_device:", ""),
    "whole number": ("port", "12", "port: 12", 12),
    "number": ("lease_grace_s", "1.5", "lease_grace_s: 1.5", 1.5),
    "whole number for a number": ("lease_grace_s", "2", "lease_grace_s: 2", 2.0),
    "path": ("token_path", "/a/b c", "token_path: /a/b c", Path("/a/b c")),
    "no path": ("token_path", "", "token_path:", None),
    "no paths": ("model_roots", "", "model_roots: []", ()),
    "nothing for paths": ("model_roots", "", "model_roots:", ()),
    "one path": ("model_roots", "/models/a", "model_roots: /models/a", ROOTS[:1]),
    "paths in a text": ("model_roots", f"/models/a{SEP}/models/b c", f"model_roots: '/models/a{SEP}/models/b c'", ROOTS),
    "paths in a list": ("model_roots", f"/models/a{SEP}/models/b c", "model_roots: [/models/a, /models/b c]", ROOTS),
    "empty paths between": ("model_roots", f"{SEP}/models/a{SEP}{SEP}", f"model_roots: '{SEP}/models/a{SEP}'", ROOTS[:1]),
    "mapping in a text": ("device_budgets_gb", "cuda:0=10,cpu=0.5", "device_budgets_gb: 'cuda:0=10, cpu=0.5'", BUDGETS),
    "mapping": ("device_budgets_gb", " cuda:0 = 10 , cpu=.5,", "device_budgets_gb: {'cuda:0': 10, cpu: 0.5}", BUDGETS),
    "no mapping": ("device_budgets_gb", "", "device_budgets_gb: {}", {}),
    "choice": ("log_level", "debug", "log_level: debug", "debug"),
}  # fmt: skip
every_value = pytest.mark.parametrize(
    ("name", "raw", "text", "value"), VALUES.values(), ids=VALUES.keys()
)


@every_value
def test_the_environment_gives_it(name: str, raw: str, text: str, value: object) -> None:
    assert getattr(from_env(**{f"LUNA_{name.upper()}": raw}), name) == value


@every_value
def test_the_command_line_gives_it(name: str, raw: str, text: str, value: object) -> None:
    flag = "--" + name.replace("_", "-")
    assert getattr(from_flags(f"{flag}={raw}"), name) == value


@every_value
def test_the_file_gives_it(file: Path, name: str, raw: str, text: str, value: object) -> None:
    assert getattr(from_file(file, text), name) == value


def test_a_path_in_a_list_may_contain_the_separator(file: Path) -> None:
    text = yaml.safe_dump({"model_roots": [f"/models/a{SEP}b", "/c"]})
    assert from_file(file, text).model_roots == (Path(f"/models/a{SEP}b"), Path("/c"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no HOME")
def test_a_tilde_is_the_home_in_every_source(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/luna")
    config = resolve(
        flags("--token-path", "~/t"),
        {"LUNA_MODEL_ROOTS": "~/a:~/b"},
        _written(file, "socket_path: ~/s"),
    ).config
    home = Path("/home/luna")
    assert (config.token_path, config.model_roots) == (home / "t", (home / "a", home / "b"))
    assert config.socket_path == home / "s"


def _written(file: Path, text: str) -> Path:
    file.write_text(text, "utf-8")
    return file


def test_every_setting_has_a_flag_and_a_variable() -> None:
    for item in dataclasses.fields(DaemonConfig):
        value = getattr(DaemonConfig(), item.name)
        raw = "" if value in (None, (), {}) else str(value)
        assert from_flags(f"--{item.name.replace('_', '-')}={raw}") == DaemonConfig()
        assert from_env(**{f"LUNA_{item.name.upper()}": raw}) == DaemonConfig()


def test_the_help_shows_every_setting_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    shown = " ".join(parser.format_help().split())
    for item in dataclasses.fields(DaemonConfig):
        assert f"--{item.name.replace('_', '-')}" in shown
    assert "(default: 19283)" in shown


def test_a_value_can_be_read_without_a_configuration() -> None:
    assert parse("7", int, "here") == 7


@pytest.mark.parametrize(
    ("given_flags", "env", "port"),
    [
        ({"service_type": "vae", "port": 5}, {}, 5),
        ({"service_type": "vae"}, {}, 19284),
        ({"service_type": "vae", "port": 5, "vae_port": 6}, {}, 6),
        ({"service_type": "vae"}, {"LUNA_PORT": "5"}, 19284),
        ({"port": 5}, {"LUNA_SERVICE_TYPE": "vae"}, 5),
        ({"service_type": "clip", "port": 5}, {}, 5),
        ({"service_type": "full", "port": 5, "vae_port": 6}, {}, 5),
    ],
    ids=[
        "--port of a VAE daemon",
        "VAE daemon",
        "--vae-port of a VAE daemon",
        "the environment's port is the other daemon's",
        "VAE daemon by the environment",
        "text encoder daemon",
        "full daemon",
    ],
)
def test_the_daemon_listens_on_the_port_of_its_service(
    given_flags: Mapping, env: Mapping, port: int
) -> None:
    assert resolve(given_flags, env).config.listen_port == port


def test_the_port_of_a_vae_daemon_came_from_the_command_line() -> None:
    origins = resolve({"service_type": "vae", "port": 5}, {}).origins
    assert origins["vae_port"] == "command line"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no unix sockets")
def test_everything_lies_in_the_runtime_folder() -> None:
    endpoint = DaemonConfig(runtime_dir=Path("/r"), port=7).endpoint
    assert (endpoint.socket_path, endpoint.token_path, endpoint.port) == (
        Path("/r/daemon-7.sock"),
        Path("/r/token"),
        7,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no unix sockets")
def test_socket_and_token_may_lie_elsewhere() -> None:
    config = DaemonConfig(runtime_dir=Path("/r"), socket_path=Path("/s"), token_path=Path("/t"))
    assert (config.endpoint.socket_path, config.endpoint.token_path) == (Path("/s"), Path("/t"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no unix sockets")
def test_the_daemons_of_split_mode_do_not_share_a_socket() -> None:
    clip, vae = (DaemonConfig(runtime_dir=Path("/r"), service_type=s) for s in ("clip", "vae"))
    assert clip.endpoint.socket_path != vae.endpoint.socket_path


@pytest.mark.parametrize(
    ("values", "clip", "vae"),
    [
        ({}, "auto", "auto"),
        ({"device": "cpu"}, "cpu", "cpu"),
        ({"device": "cpu", "vae_device": "cuda:0"}, "cpu", "cuda:0"),
        ({"clip_device": "cuda:1"}, "cuda:1", "auto"),
    ],
    ids=["default", "one for all", "VAE apart", "text encoders apart"],
)
def test_a_pool_without_a_device_of_its_own_uses_the_common_one(
    values: dict, clip: str, vae: str
) -> None:
    config = DaemonConfig(**values)
    assert (config.device_of("clip"), config.device_of("vae")) == (clip, vae)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DaemonConfig().port = 1  # type: ignore[misc]


def test_the_table_of_settings_has_every_setting_once() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == FIELDS
    assert [row.split("`")[3] for row in rows] == [f"LUNA_{name.upper()}" for name in FIELDS]


def test_every_row_of_the_table_has_four_cells() -> None:
    assert {row.count("|") for row in settings_table().splitlines()} == {5}


def test_the_table_is_the_same_on_every_platform() -> None:
    assert f"'{SEP}'" not in settings_table()


def test_the_table_lists_choices() -> None:
    row = next(r for r in settings_table().splitlines() if r.startswith("| `log_level`"))
    assert row.endswith("One of `debug`, `info`, `warning`, `error`. |")


def test_a_printed_configuration_names_the_origins(file: Path) -> None:
    printed = print_config(resolve({"port": 3}, {"LUNA_MAX_BATCH": "2"})).splitlines()
    assert "port: 3  # command line" in printed
    assert "max_batch: 2  # environment LUNA_MAX_BATCH" in printed
    assert "host: 127.0.0.1  # default" in printed


def reloaded(config: DaemonConfig, file: Path) -> DaemonConfig:
    printed = print_config(Settings(config, dict.fromkeys(FIELDS, "somewhere # odd: 'place'")))
    return from_file(file, printed)


PRINTED = {
    "defaults": DaemonConfig(),
    "everything": DaemonConfig(
        port=1,
        socket_path=Path("/tmp/my sockets/a # b.sock"),
        model_roots=(Path("/models/ü: 'x'"), Path("/models/b")),
        device="cuda:0",
        clip_device="null",
        vae_device="1",
        device_budgets_gb={"cuda:0": 10.0, "cpu": 0.25},
        lease_grace_s=1e-05,
        log_level="debug",
    ),
    "many long paths": DaemonConfig(
        model_roots=tuple(Path(f"/models/{'long folder ' * 10}/{n}") for n in range(30))
    ),
}


@pytest.mark.parametrize("config", PRINTED.values(), ids=PRINTED.keys())
def test_a_printed_configuration_loads_to_the_same(file: Path, config: DaemonConfig) -> None:
    assert reloaded(config, file) == config


line_breaks = "\x7f\x85\u2028\u2029"
names = st.text(
    st.characters(exclude_characters=line_breaks + "/", exclude_categories=["Cs", "Cc"]), min_size=1
)
devices = st.from_regex(r"(cpu|cuda:[0-9]|[0-9]|null|true|~|ü)", fullmatch=True)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(names, max_size=3), st.dictionaries(devices, st.floats(0, 1e6), max_size=2), devices
)
def test_any_paths_and_budgets_survive_printing_and_loading(
    tmp_path_factory, roots, budgets, device
):
    config = DaemonConfig(
        model_roots=tuple(Path("/m", root) for root in roots),
        device_budgets_gb=budgets,
        device=device,
    )
    file = tmp_path_factory.getbasetemp() / "printed.yaml"
    assert reloaded(config, file) == config
