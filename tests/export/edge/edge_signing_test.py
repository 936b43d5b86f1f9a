"""Signed models: read with the right key, refused after any change."""

import io
import os
import socket
import zipfile

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from helpers.keys import write_keys, write_ssh_keys

from cxr_tfds.errors import InputError, MissingData
from cxr_tfds.export.edge.app.command import app
from cxr_tfds.export.edge.app.uploads import open_model
from cxr_tfds.export.edge.classifier import Classifier
from cxr_tfds.export.edge.command import cli
from cxr_tfds.export.edge.model_file import append_model_info, read_model, sign_model
from cxr_tfds.signing import PASSPHRASE, SIGNATURE_BYTES, TRUST, load_private_key, sign

FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(range(256))
CARD = "# Model card\n"
REFUSED = r"is not signed|signed with another key|was changed after it was signed"


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("other_keys"))


@pytest.fixture
def unsigned(info):
    return append_model_info(FLATBUFFER, info, CARD)


@pytest.fixture
def signed(info, keys):
    return append_model_info(FLATBUFFER, info, CARD, load_private_key(keys.private))


def test_reads_a_signed_model_with_and_without_its_key(info, signed, keys):
    assert read_model(signed, keys.public) == (FLATBUFFER, info, CARD)
    assert read_model(signed) == (FLATBUFFER, info, CARD)


def test_other_programs_read_a_signed_model(signed, unsigned):
    assert signed.startswith(FLATBUFFER)
    assert len(signed) == len(unsigned) + SIGNATURE_BYTES
    with zipfile.ZipFile(io.BytesIO(signed)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt", "MODEL_CARD.md", "model.json"]
        assert archive.comment == signed[-SIGNATURE_BYTES:]


def test_signing_is_deterministic(signed, unsigned, keys):
    assert sign_model(unsigned, load_private_key(keys.private)) == signed


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])  # 0x20 changes the case of letters
def test_refuses_every_changed_byte(signed, keys, mask):
    for place in range(len(signed)):
        changed = bytearray(signed)
        changed[place] ^= mask
        with pytest.raises(InputError, match=REFUSED):
            read_model(bytes(changed), keys.public)


def test_refuses_every_truncation(signed, keys):
    for length in range(len(signed)):
        with pytest.raises(InputError, match=REFUSED):
            read_model(signed[:length], keys.public)


def test_refuses_appended_and_inserted_bytes(signed, keys):
    line = signed[-SIGNATURE_BYTES:]
    for extra in (b"\0", b"PK\x05\x06" + bytes(18), line, signed):
        for place in (len(signed), len(signed) - SIGNATURE_BYTES, len(FLATBUFFER)):
            changed = signed[:place] + extra + signed[place:]
            with pytest.raises(InputError, match=REFUSED):
                read_model(changed, keys.public)


def test_refuses_an_unsigned_model(unsigned, keys):
    with pytest.raises(InputError, match=r"^The model is not signed, .* Expected a signature with"):
        read_model(unsigned, keys.public)


def test_refuses_a_second_signature(signed, keys, other_keys):
    with pytest.raises(InputError, match="already signed"):
        sign_model(signed, load_private_key(other_keys.private))
    added = signed + sign(signed, "model", load_private_key(other_keys.private))
    with pytest.raises(InputError, match="signed with another key"):
        read_model(added, keys.public)


def test_refuses_the_signature_of_something_else(info, signed, keys):
    key = load_private_key(keys.private)
    renamed = append_model_info(FLATBUFFER[:-1] + b"!", info, CARD, key)
    for line in (renamed[-SIGNATURE_BYTES:], sign(signed[:-SIGNATURE_BYTES], "dataset", key)):
        with pytest.raises(InputError, match=r"was changed .* copy the model again"):
            read_model(signed[:-SIGNATURE_BYTES] + line, keys.public)


def test_refuses_another_key(signed, other_keys):
    with pytest.raises(InputError, match=r"is signed with another key: '[0-9a-f]{16}'; expected"):
        read_model(signed, other_keys.public)


def test_refuses_keys_of_other_types_and_other_files(tmp_path, signed, keys):
    others = {"x25519": X25519PrivateKey.generate(), "ec": generate_private_key(SECP256R1())}
    for name, key in others.items():
        pair = write_keys(tmp_path, name, key)
        with pytest.raises(InputError, match=r"contains a key of type \w+; expected Ed25519"):
            read_model(signed, pair.public)
        with pytest.raises(InputError, match=r"contains a key of type \w+; expected Ed25519"):
            load_private_key(pair.private)
    with pytest.raises(InputError, match="contains a private key, which signs"):
        read_model(signed, keys.private)
    with pytest.raises(InputError, match="contains no private key"):
        load_private_key(keys.public)
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(InputError, match="is not a readable public key"):
        read_model(signed, broken)
    with pytest.raises(MissingData, match="does not exist; expected the file of a key"):
        read_model(signed, tmp_path / "none.pem")


def test_takes_keys_of_ssh_keygen(tmp_path, info, unsigned):
    pair = write_ssh_keys(tmp_path)
    model = sign_model(unsigned, load_private_key(pair.private))
    assert read_model(model, pair.public).info == info


def test_decrypts_the_private_key(tmp_path, monkeypatch):
    pair = write_keys(tmp_path, passphrase="secret")
    with pytest.raises(InputError, match=f"is encrypted. .* {PASSPHRASE}"):
        load_private_key(pair.private)
    monkeypatch.setenv(PASSPHRASE, "wrong")
    with pytest.raises(InputError, match=f"is not a readable private key: .* check {PASSPHRASE}"):
        load_private_key(pair.private)
    monkeypatch.setenv(PASSPHRASE, "secret")
    load_private_key(pair.private)


def test_the_environment_is_the_default(monkeypatch, signed, unsigned, keys, other_keys):
    monkeypatch.setenv(TRUST, str(keys.public))
    assert read_model(signed).card == CARD
    for source, trust in ((unsigned, None), (signed, other_keys.public)):
        with pytest.raises(InputError, match=REFUSED):
            Classifier(source, trust=trust)


def test_no_command_reads_an_unsigned_model(infer, models, tmp_path, keys, draw):
    """Every command that takes a model takes --trust, and forgets it at its end."""
    commands = {**cli.commands, "cxr-app": app}
    taking = {name for name, c in commands.items() if any(p.name == "model" for p in c.params)}
    assert {"predict", "evaluate", "benchmark", "info", "cxr-app"} <= taking
    for name in taking:
        assert any(param.name == "trust" for param in commands[name].params), name
    image = draw("x.png", 10)
    arguments = {"predict": [image], "evaluate": [image.parent], "benchmark": [], "info": []}
    for name, more in arguments.items():
        done = infer(name, "--trust", keys.public, "--model", models["int8"], *more)
        assert done.exit_code == 1, name
        assert f"{models['int8']} is not signed" in " ".join(done.output.split()), name
        assert TRUST not in os.environ
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = ("--model", str(models["int8"]), "--trust", str(keys.public), "--port", str(port))
    open_model(models["int8"])  # as an earlier page without --trust
    done = CliRunner().invoke(app, model)
    assert done.exit_code == 1
    assert "is not signed" in " ".join(done.output.split())
    signed = tmp_path / "signed.tflite"
    signed.write_bytes(sign_model(models["int8"].read_bytes(), load_private_key(keys.private)))
    done = infer("info", "--json", "--trust", keys.public, "--model", signed)
    assert done.exit_code == 0, done.output
