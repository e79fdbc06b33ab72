"""Named tokens with roles: who may do what, call by call, as the OpenAPI document says it."""

from __future__ import annotations

import pytest

from stfpm_runtime.errors import ConfigError
from stfpm_runtime.line.config.server import ServerOptions
from stfpm_runtime.line.config.toml_file import MistakeError
from stfpm_runtime.line.web import check_server
from stfpm_runtime.line.web.http.users import ROLES, hash_of, read_users
from stfpm_runtime.line.web.http.users_cli import main

from ..conftest import wait_until
from ..test_model_swap import details
from .conftest import TOKEN


@pytest.fixture
def users(tmp_path, capsys):
    """Returns the file and the token of a user of each role, whose name is that of the role."""
    path, tokens = tmp_path / "users.json", {}
    for role in ROLES:
        assert main([str(path), "add", role, "--role", role]) == 0
        tokens[role] = capsys.readouterr().out.strip()
    return path, tokens


@pytest.fixture
def client(serve, users, config):
    return serve(config=config, users=users[0])


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "line.toml"
    path.write_text('model = "model.onnx"\njournal.path = "line.sqlite"\n[[camera]]\nname = "left"\nsource = "0"\n')
    return path


def address(path: str) -> str:
    names = {"camera": "left", "region": "frame", "seq": "1", "name": "a.png", "file": "new.onnx"}
    return path.format(**names)


def test_every_call_is_allowed_from_its_role_on_and_refused_below(client, users):
    paths = client.get("/openapi.json")["paths"]
    roles = {
        (path, method): call.get("x-role", "view") for path, calls in paths.items() for method, call in calls.items()
    }
    more = {call for call, role in roles.items() if call[1] == "get" and role != "view"}
    assert more == {("/api/collected.zip/{camera}/{region}", "get")}  # all pictures at once
    assert "view" not in {role for (_, method), role in roles.items() if method != "get"}
    assert roles["/api/labels", "post"] == roles["/trigger/{camera}", "post"] == "operate"
    for (path, method), needed in roles.items():
        for role, token in users[1].items():
            client.token = token
            answer = client.ask(address(path), method.upper(), b"{}" if method == "post" else None)
            is_allowed = ROLES.index(role) >= ROLES.index(needed)
            assert answer.status != 401, (path, role)
            assert (answer.status != 403) == is_allowed, (path, method, role, answer)


def test_a_change_carries_the_name_of_the_tokens_bearer_and_no_other(client, users):
    wait_until(lambda: len(client.running.journal.rows()) > 3)
    client.token = users[1]["operate"]
    answer = client.post("/api/labels", seq=2, label="good", who="engineer")
    assert (answer.status, answer.json["error"]) == (403, "who: got 'engineer'; expected operate, whose token this is")
    text = ' {"seq": 2, "label": "good", "who": "engineer"}'
    assert client.ask("/api/labels", "POST", text.encode()).status == 403
    assert client.ask("/api/labels", "POST", text.encode("utf-16")).status in (400, 403)
    assert client.post("/api/labels", seq=2, label="good", who="operate").status == 200
    assert client.ask("/api/status").headers["x-user"] == "operate"
    client.token = TOKEN  # of the configuration: its bearer says who it is
    assert client.post("/api/labels", seq=2, label="good", who="Ada").status == 200
    assert client.get("/api/status")["can_engineer"]


def test_a_token_that_is_withdrawn_is_refused_at_the_next_request(client, users):
    client.token = users[1]["engineer"]
    assert client.post("/api/threshold", threshold=0.4, who="engineer").status == 200
    assert main([str(users[0]), "remove", "engineer"]) == 0
    assert client.post("/api/threshold", threshold=0.5, who="engineer").status == 401
    client.token = users[1]["view"]
    assert client.get("/api/status")["can_change"] is False
    users[0].write_text("{}")  # nobody is let in who may have been removed
    assert client.ask("/api/status").status == 503
    client.token = TOKEN
    assert client.ask("/api/status").status == 200
    assert all("engineer" in text or "Ada" in text for text in details(client.running.journal, "threshold"))


def test_the_file_holds_no_token_and_its_owner_alone_may_write_it(users):
    text = users[0].read_text()
    assert all(token not in text and hash_of(token) in text for token in users[1].values())
    assert len({*users[1].values()}) == len(ROLES)
    assert users[0].stat().st_mode & 0o022 == 0


def test_a_new_token_ends_the_one_before(users, capsys):
    assert main([str(users[0]), "add", "view", "--role", "operate"]) == 0
    token = capsys.readouterr().out.strip()
    (user,) = (user for user in read_users(users[0]) if user.name == "view")
    assert (user.role, user.token_sha256) == ("operate", hash_of(token))
    assert main([str(users[0]), "list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(ROLES)


@pytest.mark.parametrize("argv", [["remove", "nobody"], ["add", "a\nb"], ["add", " "]])
def test_wrong_names_are_refused_and_change_nothing(users, argv, capsys):
    before = users[0].read_bytes()
    assert main([str(users[0]), *argv]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert users[0].read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "[]", '{"users": [{"name": "a"}]}', '{"users": [{"name": "a", "role": "king"}]}', "\x00"]
)
def test_a_damaged_file_is_named_and_the_line_does_not_start_with_it(tmp_path, text):
    path = tmp_path / "users.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"users\.json: "):
        check_server(ServerOptions("127.0.0.1:0", users=path))
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        check_server(ServerOptions("127.0.0.1:0", users=path))


def test_others_reach_a_server_that_has_users_alone(tmp_path):
    with pytest.raises(MistakeError, match="expected the key token or users"):
        ServerOptions("0.0.0.0:0")
    assert not ServerOptions("0.0.0.0:0", users=tmp_path / "users.json").is_local
