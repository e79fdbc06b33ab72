"""A line's TOML file: every mistake is named with its line, and the documentation explains every key."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from stfpm_runtime.errors import ConfigError
from stfpm_runtime.line.config.camera import RegionOptions
from stfpm_runtime.line.config.line import LineOptions, read_config

PAGES = [Path(__file__).parents[3] / "docs" / name for name in ("inspection.md", "plant.md", "dashboard.md")]
RECIPES_PAGE = PAGES[0].with_name("products.md").read_text(encoding="utf-8")
DOCUMENTATION = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
EXAMPLE = "\n".join(re.findall(r"```toml\n(.*?)```", DOCUMENTATION, re.DOTALL))
RECIPES = "\n".join(re.findall(r"```toml\n(.*?)```", RECIPES_PAGE, re.DOTALL))
GOOD = """\
model = "bottle.onnx"

[journal]
path = "line.sqlite"

[[camera]]
name = "left"
source = "rtsp://user:secret@host/a"

[[camera]]
name = "right"
source = "parts"

[[camera.region]]
name = "cap"
rectangle = [
    10, 20,
    300, 200,
]
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> LineOptions:
        path = tmp_path / "line.toml"
        path.write_text(text, encoding="utf-8")
        return read_config(path)

    return read


def tables(schema: type) -> set[type]:
    """Return the schema and all tables in it."""
    found = {schema}
    for hint in typing.get_type_hints(schema).values():
        for kind in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(kind):
                found |= tables(kind)
    return found


ALL_KEYS = {field.name for table in tables(LineOptions) for field in dataclasses.fields(table)}
ALL_KEYS -= {"http"}  # the table is refused


def test_good_file(read, tmp_path):
    options = read(GOOD)
    assert options.model == tmp_path / "bottle.onnx"
    assert options.journal.path == tmp_path / "line.sqlite"
    left, right = options.camera
    assert left.source == "rtsp://user:secret@host/a"
    assert right.source == str(tmp_path / "parts")
    assert [region.name for region in left.regions] == ["frame"]
    assert right.regions == (RegionOptions("cap", (10, 20, 300, 200)),)


@pytest.mark.parametrize("source", ["0", "rtsp://host/a", "videotestsrc ! appsink", "aravis:Fake_1", "/dev/video0"])
def test_source_that_is_no_path_stays_as_it_is(read, source):
    assert read(GOOD.replace("parts", source)).camera[1].source == source


def test_example_of_the_documentation_is_complete(read):
    options = read(EXAMPLE)
    assert [camera.name for camera in options.camera] == [
        "top",
        "web",
        "handover",
        "side",
        "gige",
        "belt",
        "press",
        "stamp",
    ]
    assert {
        key for key in ALL_KEYS if not re.search(rf"^(\[+(camera\.)?{key}\]+|{key} =)", EXAMPLE + RECIPES, re.MULTILINE)
    } == set()


def test_example_of_recipes_gives_each_its_own_options(read, tmp_path):
    options = read(RECIPES)
    assert options.models == (tmp_path / "cap-blue.onnx", tmp_path / "cap-large.onnx")
    blue, large = (options.with_recipe(recipe) for recipe in options.recipe)
    assert (blue.threshold, large.threshold) == (0.011, None)
    assert [region.name for region in blue.camera[0].regions] == ["frame"]
    assert large.camera[0].threshold == 0.02
    assert [region.name for region in large.camera[0].regions] == ["cap"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start_recipe = 7", "start_recipe = 9", "start_recipe: got 9; expected one of 7, 8"),
        ("start_recipe = 7", 'model = "a.onnx"', "model: is for a line with one model; remove it"),
        ("start_recipe = 7", 'shadow = "a.onnx"', "shadow: is for a line with one model; remove it"),
        ("start_recipe = 7", "threshold = 0.1", "threshold: is for a line with one model; remove it"),
        ("start_recipe = 7", "review.shadow_parts = 1", "review: no model can be approved on a line with recipes"),
        ("id = 8", "id = 7", "recipe: there are two of the name '7'"),
        ("id = 8", "id = 65536", "recipe.id: got 65536; expected 1 to 65535"),
        ('name = "cap-large"', 'name = "cap-blue"', "recipe: there are two of the name 'cap-blue'"),
        (
            'name = "top"\nthreshold',
            'name = "side"\nthreshold',
            "cap-large: got the camera 'side'; expected one of top",
        ),
        ('source = "0"', 'source = "0"\nthreshold = 0.1', "top: with recipes each threshold belongs to one of them"),
        (
            "recipe_address = 100",
            "recipe_address = 20",
            "recipe_address: got 20; expected 0 to 65530, of which 0 to 25",
        ),
        ("recipe_address = 100", "recipe_address = 65531", "recipe_address: got 65531; expected 0 to 65530"),
        ('password = "replace me with 16 or more characters"', "", "user: user and password belong together"),
        ('password = "replace me with 16 or more characters"', 'password = "short"', "password: got 5 characters"),
        ('listen = "10.0.0.5:4841"', 'listen = "10.0.0.5:0"', "listen: got '10.0.0.5:0'; expected a port"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(read, old, new, message):
    assert old in RECIPES
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(RECIPES.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("start_recipe = 1\n", "start_recipe"),
        ("[recipe_server]\n", "recipe_server"),
        ('[mqtt]\nhost = "a"\nrecipes = true\n', "mqtt"),
        ('[[modbus]]\nhost = "a"\nrecipe_address = 100\n', "modbus"),
    ],
)
def test_who_asks_for_recipes_needs_some(read, text, key):
    with pytest.raises(ConfigError, match=f"{key}: asks for recipes, and there are none"):
        read(f"{text}{GOOD}" if key == "start_recipe" else f"{GOOD}{text}")


def test_line_without_model_and_recipes_is_refused(read):
    with pytest.raises(ConfigError, match="the key model is missing; expected a path in quotes, or tables"):
        read(GOOD.replace('model = "bottle.onnx"', ""))


def test_every_key_has_its_row_in_the_documentation():
    rows = [line for line in (DOCUMENTATION + RECIPES_PAGE).splitlines() if line.startswith("| ")]
    documented = {key for row in rows for key in re.findall(r"`(?:\[+(?:camera\.)?)?(\w+)\]*`", row)}
    assert ALL_KEYS - documented == set()


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            'source = "parts"', 'source = "parts"\ntrigger = "gpio"', 10, 'camera.gpio: trigger = "gpio" and the key',
        ),
        (
            'source = "parts"',
            'source = "parts"\ntrigger = "mqtt"\ntopic = "a"',
            6,
            'camera: a trigger is "mqtt"; expected a table',
        ),
        (
            "[journal]", "[mqtt]\nhost = \"h\"\ntopic = \"a/#\"\n[journal]", 5, "mqtt.topic: got 'a/#'; expected a",
        ),
        ("[journal]", "[mqtt]\nhost = \"h\"\nca = \"x.pem\"\n[journal]", 5, "mqtt.ca: certificates without TLS"),
        ("[journal]", "[[webhook]]\nurl = \"ftp://secret\"\n[journal]", 4, "webhook.url: is no address; expected http"),
        ("[journal]", "[[modbus]]\nhost = \"h\"\nport = 0\n[journal]", 5, "modbus.port: got 0; expected 1 to 65535"),
        ("[journal]", "[[opcua]]\nurl = \"opc.tcp://h\"\n[journal]", 3, "opcua.verdict: no verdict is written"),
        ("[journal]", "[mqtt]\nhost = \"h\"\npassword = 12\n[journal]", 5, "mqtt.password: got int; expected a text"),
        ("", "colour = 1\n", 1, "colour: unknown key; expected one of journal, camera"),
        ('path = "line.sqlite"', 'pth = "line.sqlite"', 4, "journal.pth: unknown key; did you mean path?"),
        ('source = "parts"', 'souce = "parts"', 12, "camera.souce: unknown key; did you mean source?"),
        ('source = "parts"', "source = 0", 12, "camera.source: got int; expected a text in quotes"),
        ('source = "parts"\n', "", 10, "camera: the key source is missing; expected a text in quotes"),
        ('path = "line.sqlite"', "", 3, "journal: the key path is missing; expected a path"),
        ('source = "parts"', 'source = ""', 12, "camera.source: is empty; expected a camera"),
        ('name = "right"', 'name = "left"', 6, "camera: there are two of the name 'left'; expected names that differ"),
        ('name = "right"', 'name = "a/b"', 11, "camera.name: got 'a/b'; expected letters, digits"),
        ('name = "cap"', "name = true", 15, "camera.region.name: got True; expected a text in quotes"),
        ("    10, 20,\n    300, 200,\n", "1, 2, 3", 16, "camera.region.rectangle: got [1, 2, 3]; expected an array"),
        ("    10, 20,\n", "10, 20.5,", 16, "camera.region.rectangle: got 20.5; expected a whole number"),
        ("    300, 200,\n", "4, 4", 16, "camera.region.rectangle: got [10, 20, 4, 4]; expected x and y of 0 or more"),
        ("]\n", "]\npolygon = [[0, 0], [9, 0], [9, 9]]\n", 4, "unknown key"),
        ('source = "parts"', 'source = "parts"\ntrigger = "plc"', 13, "camera.trigger: got 'plc'; expected one of "),
        ('source = "parts"', 'source = "parts"\ntrigger = "every"', 13, "a clock without a time; expected the key"),
        ('source = "parts"', 'source = "parts"\nevery_ms = 5', 13, 'the trigger is "continuous"; expected trigger = '),
        ('source = "parts"', 'source = "parts"\ntrigger = "http"', 6, 'a trigger is "http"; expected a table [da'),
        ('source = "parts"', 'source = "parts"\ndebounce = [3, 2]', 13, "camera.debounce: got [3, 2]; expected N, M"),
        ('source = "parts"', 'source = "parts"\nthreshold = nan', 13, "camera.threshold: got nan; expected a finite"),
        ('source = "parts"', 'source = "parts"\npart_length = 201', 13, "camera.part_length: got 201; expected 1 to 2"),
        ('source = "parts"', 'source = "parts"\ntimeout_ms = 0', 13, "camera.timeout_ms: got 0; expected 1 or more"),
        ('source = "parts"', 'source = "parts"\nwatch = 1', 13, "camera.watch: got 1; expected true or false"),
        ('name = "cap"', 'name = "cap"\ntile = 8', 16, "camera.region.tile: got 8; expected 32 or more"),
        ('name = "cap"', 'name = "cap"\noverlap = 8', 16, "camera.region.overlap: there are no tiles to overlap"),
        ('name = "cap"', 'name = "cap"\ntile = 64\noverlap = 33', 17, "overlap: got 33; expected 0 to 32, half a tile"),
        ('model = "bottle.onnx"', 'model = "bottle.onnx"\ndevice = "tpu"', 2, "device: got 'tpu'; expected one of"),
        ('model = "bottle.onnx"', 'model = "bottle.onnx"\nthreads = 0', 2, "threads: got 0; expected 1 or more"),
        ('path = "line.sqlite"', 'path = "a"\njson_lines = "a"', 5, "json_lines: is the journal itself"),
        ('path = "line.sqlite"', 'path = "a"\nkeep_days = "week"', 5, "journal.keep_days: got 'week'; expected a "),
        ("[journal]", "[http]\n[journal]", 3, "[http] is a part of [dashboard] now; move its listen and token there"),
        ("[journal]", "[pictures]\nfolder = 'a'\noverlay = false\noriginal = false\n[journal]", 5, "neither original"),
        ("[journal]", "[dashboard]\nlisten = '0.0.0.0:1'\n[journal]", 4, "0.0.0.0 can be reached by others; expected"),
        ("[journal]", "[dashboard]\nlisten = 'here'\n[journal]", 4, "dashboard.listen: got 'here'; expected HOST:PORT"),
        ("[journal]", "[shifts]\nearly = \"6:00\"\n[journal]", 3, "shifts: early: got '6:00'; expected the begin on"),
        ("[journal]", "[shifts]\nearly = 6\n[journal]", 4, "shifts.early: got 6; expected a text in quotes"),
        ("[journal]", "shifts = 3\n[journal]", 3, "shifts: got 3; expected a table in brackets"),
        ("[journal]", 'text = """\n\n"""\n[journal]', 3, "text: unknown key"),
    ],
)  # fmt: skip
def test_mistake_is_named_with_its_line(read, old, new, line, message):
    with pytest.raises(ConfigError) as caught:
        read(GOOD.replace(old, new, 1))
    assert f"line.toml:{line}: " in str(caught.value)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_rectangle_and_polygon_contradict_each_other(read):
    with pytest.raises(
        ConfigError, match=r"line.toml:20: camera.region.polygon: a region has a rectangle or a polygon"
    ):
        read(GOOD + "polygon = [[0, 0], [9, 0], [9, 9]]\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model = \n", "is not TOML: .*line 1"),
        (b'model = "a"\nmodel = "b"\n', "is not TOML: .*line 2"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"", r"line.toml:1: the key journal is missing"),
    ],
)
def test_what_is_no_toml(tmp_path, content, message):
    (tmp_path / "line.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "line.toml")


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        read_config(tmp_path / "none.toml")


def test_credentials_are_not_shown(read):
    options = read(EXAMPLE)
    assert "secret" not in repr(options)
    assert "replace me" not in repr(options)
