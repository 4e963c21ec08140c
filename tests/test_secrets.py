"""Whatever is shown, logged or kept holds no password: not as it is, and in no encoding."""

from __future__ import annotations

import html
import json
import logging
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlc import cli
from mlc.errors import MlcError
from mlc.text import one_line, shown_uri, without_secrets

HOSTILE_PASSWORDS = [
    "p@ss/w0rd", "p@ss:w/o?r#d", "hunter2@", "@hunter2", "?hunter2", "#hunter2", "a b\tc d", "100%25sure", "x%40y%2Fz",
    "it's \"quoted\"", "back\\slash", "://hunter2", "http://inner:pw@in", "pässwörd", "пароль", "🔑🔑🔑🔑", "a+b c+d",
    "<&hunter>", "$(hunter2)", "hunter2,hunter3", "[hunter2]", "***hunter2***",
]  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
passwords = st.one_of(st.sampled_from(HOSTILE_PASSWORDS), texts)
# What stands for the password, and where; two shown forms each: with the place, and where the password hides that too.
ADDRESSES = {
    "http://alice:{}@mlflow.example.org:5000/base": "http://***@mlflow.example.org:5000/base",
    "https://{}@mlflow.example.org": "https://***@mlflow.example.org",
    "postgresql://mlflow:{}@10.0.0.7:5432/mlflow": "postgresql://***@10.0.0.7:5432/mlflow",
    "postgresql+psycopg2://mlflow:{}@db/mlflow": "postgresql+psycopg2://***@db/mlflow",
    "postgresql://mlflow:{}@one:5432,two:5432/mlflow?target_session_attrs=any": (
        "postgresql://***@one:5432,two:5432/mlflow?***"
    ),
    "mysql+pymysql://root:{}@[::1]:3306/mlflow?charset=utf8": "mysql+pymysql://***@[::1]:3306/mlflow?***",
    "postgresql://db/mlflow?user=mlflow&password={}": "postgresql://db/mlflow?***",
    "postgresql:///mlflow?host=/run/db&sslpassword={}": "postgresql:///mlflow?***",
    "sqlite+pysqlcipher://:{}@/mlflow.db": "sqlite+pysqlcipher://***@/mlflow.db",
    "https://ghp:{}@dvc.example.org/store#main": "https://***@dvc.example.org/store#***",
    "alice:{}@proxy:3128": "***@proxy:3128",
}


@given(st.sampled_from(list(ADDRESSES)), passwords)
def test_an_address_is_shown_the_same_whatever_the_password(address: str, password: str) -> None:
    scheme = address.partition("://")[0] + "://" if "://" in address else ""
    assert shown_uri(address.format(password)) in (ADDRESSES[address], f"{scheme}***")
    assert shown_uri(address.format(quote(password, safe=""))) == ADDRESSES[address]
    assert shown_uri(shown_uri(address.format(password))) == shown_uri(address.format(password))


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:///mlflow/mlflow.db", "sqlite:////home/amina@example.org/mlflow.db", "/home/amina@example.org/store",
        "./runs", "../a@b", "~/a@b", "mlruns", "databricks", "databricks://profile", "file:///srv/mlruns",
        "http://127.0.0.1:5000", "s3://bucket/mlc", "arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x",
    ],
)  # fmt: skip
def test_an_address_without_a_secret_stays_as_it_is(address: str) -> None:
    assert shown_uri(address) == address
    assert without_secrets(f"cannot open {address}: no") == f"cannot open {address}: no"


def spellings(secret: str) -> list[str]:
    """In which a library, a shell, a log or a page may repeat it."""
    upper = quote(secret, safe="")
    lower = re.sub("%..", lambda match: match[0].lower(), upper)
    return [
        secret, upper, lower, quote(secret), quote_plus(secret), unquote(secret), repr(secret)[1:-1],
        json.dumps(secret)[1:-1], html.escape(secret), " ".join(secret.split()),
    ]  # fmt: skip


def told_apart(secret: str, *others: str) -> bool:
    """Long enough to be looked for, and not part of the words around it."""
    return len(secret.strip()) >= 4 and not any(secret.strip().lower() in text.lower() for text in others)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["MLFLOW_TRACKING_PASSWORD", "PGPASSWORD", "OPENAI_API_KEY", "HF_TOKEN", "PREFECT_API_KEY",
                     "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "JUDGE_KEY"]),
    passwords,
)  # fmt: skip
def test_the_value_of_a_secret_variable_is_in_no_text(variable: str, secret: str) -> None:
    around = "could not log in with {}: refused"
    assume("\x00" not in secret and told_apart(secret, around, "***"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, secret)
        for spelling in spellings(secret):
            assume(told_apart(spelling, around, "***"))
            shown = without_secrets(around.format(spelling))
            # Spaces around the value are no part of what is hidden.
            assert spelling.strip() not in shown and re.match(r"could not log in with\s+\*\*\*", shown), spelling


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "HTTPS_PROXY", "PREFECT_API_URL", "DATABASE_URL"]),
    st.sampled_from(list(ADDRESSES)), passwords, st.booleans(),
)  # fmt: skip
def test_the_password_of_an_address_is_in_no_text(variable: str, address: str, password: str, encoded: bool) -> None:
    frame = "connection to {} as user with {} failed"
    assume(told_apart(password, frame, address, *ADDRESSES.values()))
    given_password = quote(password, safe="") if encoded else password
    if "?" in address.partition("{}")[0] and not encoded:
        assume(not set("&;#@") & set(password))  # ends the parameter
    uri = address.format(given_password)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, uri)
        for spelling in {password, *spellings(given_password), *spellings(password)}:
            assume(told_apart(spelling, frame, address, *ADDRESSES.values()))
            for place in (uri, repr(uri), shown_uri(uri)):
                shown = without_secrets(frame.format(place, spelling))
                assert spelling not in shown and password not in shown
                assert without_secrets(shown) == shown
    assert password not in without_secrets(f"unknown to us: {address.format(quote(password, safe=''))}")


def test_what_a_library_says_of_half_a_password_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy ends an unencoded password at its first ``@``, and calls the rest a host."""
    from sqlalchemy.engine import make_url

    uri = "postgresql://mlflow:first@second-half@db/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert make_url(uri).host == "second-half@db"
    assert "half" not in without_secrets(f'could not translate host name "{make_url(uri).host}" to address')
    assert "first" not in without_secrets(f"password {make_url(uri).password}")


def test_headers_keys_and_assignments_are_hidden_wherever_they_come_from() -> None:
    basic = b64encode(b"alice:hunter22").decode()
    for text in (
        f"{{'Authorization': 'Basic {basic}'}}",
        "authorization: Bearer hunter22",
        "connection failed: host=db password=hunter22 port=5432",
        "sslpassword='hunter22 or so' is wrong",
        "GET /store?sig=hunter22&x=1",
        "the key sk-proj-hunter22hunter22hunter22 is wrong",
        "hf_hunter22hunter22hunter22",
        "pnu_hunter22hunter22hunter22",
        "http://a:hunter22@b,http://c:hunter22@d",
        'url="https://hunter22@example.org"',
    ):
        shown = without_secrets(text)
        assert "hunter22" not in shown and basic not in shown and "***" in shown, text


@pytest.mark.parametrize(
    "text",
    [
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of somebody who has it",
        "the pad token </s> is no token; a key: value pair; true, false",
        "mail git@github.com:someone/mlc.git or a@example.org",
        "scikit-learn 1.6, sk-learn, hf_model: authorization is missing",
        "http://127.0.0.1:5000/api/2.0/mlflow/registered-models/get?name=mlc: 404",
    ],
)
def test_words_about_secrets_stay(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HF_HUB_DISABLE_IMPLICIT_TOKEN", "true"), ("TOKENIZERS_PARALLELISM", "false")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mlc")
    monkeypatch.setenv("GITHUB_TOKEN", "")
    assert without_secrets(text) == text


PASSWORD = "p@ss/w0rd 5"
STORE = f"postgresql+psycopg2://mlflow:{PASSWORD}@db.invalid/mlflow?sslpassword=hunter22"


class Unforeseen(Exception):
    """What no part of mlc expects."""


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        try:
            raise ValueError(f"inner: {STORE!r}")
        except ValueError as cause:
            cause.add_note(f"tried with {quote(PASSWORD)}")
            raise error from cause

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["mlc", "register", STORE])
    with pytest.raises(SystemExit):
        cli.main()


@pytest.mark.parametrize(
    "error",
    [
        Unforeseen(f"no answer from {STORE}"),
        MlcError(f"version 3 cannot be read ({' '.join(STORE.split())})"),
        ConnectionRefusedError(f"{'x' * 490} {STORE}"),
        PermissionError(13, f"Read-only file system: {STORE}"),
        OSError(28, f"No space left on device: {STORE}"),
    ],
)
@pytest.mark.parametrize("debug", ["", "1"])
def test_what_goes_wrong_shows_and_keeps_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, error: Exception, debug: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    monkeypatch.setenv("MLC_DEBUG", debug)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    fails(monkeypatch, error)
    shown = [capsys.readouterr().err, *(file.read_text() for file in tmp_path.rglob("*.log"))]
    assert len(shown) == 1 + isinstance(error, Unforeseen)
    for text in shown:
        assert text and not any(secret in text for secret in (*spellings(PASSWORD), "w0rd", "p@ss", "hunter22")), text
    assert ("Traceback" in shown[0]) == bool(debug)


def test_an_error_is_cut_after_its_secrets_are_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter22hunter22")
    assert one_line(f"{'x' * 190} hunter22hunter22 is wrong") == f"{'x' * 190} *** is wr"


def test_the_log_of_a_run_and_its_last_line_hold_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import retrain

    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    assert retrain._registry() == 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://alice:hunter22@mlflow.example.org")
    assert retrain._registry() == "https://***@mlflow.example.org"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert retrain._registry() == "mlflow ui --backend-store-uri sqlite:///mlflow/mlflow.db"

    monkeypatch.setenv("OPENAI_API_KEY", "hunter22")
    try:
        raise ValueError("hunter22")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "with %s", ("hunter22",), sys.exc_info())
    assert retrain._Formatter("%(message)s").format(record).count("***") == 3  # in the message and twice in the trace


def test_what_a_stage_prints_reaches_the_log_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import stages

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    lines: list[str] = []
    stages._follow(["sh", "-c", 'echo "user alice, password $MLFLOW_TRACKING_PASSWORD"'], None, lines.append)
    assert lines == ["user alice, password ***"]


def test_mlflow_prints_no_address_at_the_end_of_a_run() -> None:
    code = "import mlc.tracking; from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT as s"
    done = subprocess.run([sys.executable, "-c", f"{code}; print(s.get())"], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_doctor_shows_no_password_of_a_server_a_proxy_or_a_remote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dvc.repo import Repo

    from mlc.paths import Paths
    from mlc.project import connections, doctor
    from mlc.settings import load_settings

    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[1] / "params.yaml", tmp_path)
    with Repo.init(no_scm=True) as repo, repo.config.edit() as config:
        config["remote"] = {
            "a": {"url": "http://alice:hunter22@127.0.0.1:9/store"},
            "b": {"url": "http://127.0.0.1:9/store", "user": "alice", "password": "hunter22", "auth": "basic"},
            "c": {
                "url": "s3://bucket/x",
                "endpointurl": "http://k:hunter22@127.0.0.1:9",
                "secret_access_key": "hunter22",
            },
        }
    for address in (
        "http://alice:hunter22@127.0.0.1:9",
        "http://alice:hunter22/x@127.0.0.1:9",
        STORE,
        "nonsense://hunter22@x",
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("PREFECT_API_URL", address)
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy:hunter22@127.0.0.1:9")
        remotes = connections.dvc(Paths()) if address.endswith(":9") else ()
        checks = [
            *remotes,
            *connections.tracking(load_settings(Paths().params), Paths()),
            *connections.prefect(Paths()),
        ]
        monkeypatch.setattr(doctor, "_checks", lambda *_, checks=checks: checks)
        table = doctor.table(doctor.run(Paths(), tries_base=False))
        assert "tracking" in table and "prefect" in table and (not remotes or "remote" in table)
        assert "hunter22" not in table and "w0rd" not in table, table


def test_a_key_that_an_endpoint_repeats_is_out_before_its_words_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    from mlc.endpoint import Endpoint

    monkeypatch.setenv("ANY_NAME", "k!y-of-many-characters")
    endpoint = Endpoint("http://127.0.0.1:9", "m", "ANY_NAME")
    message = endpoint._error_message(httpx.Response(401, text=f"{'x' * 190} k!y-of-many-characters"))
    assert message == f"{'x' * 190} ***"
    assert "k!y" not in endpoint._error_message(httpx.Response(401, text=f"key {quote('k!y-of-many-characters')}"))
