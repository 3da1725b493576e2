"""The intake against publications that are wrong, late, twice or somebody else's."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from devkit_api.errors import SourceInvalid
from devkit_api.lifetimes import STORE
from devkit_api.modules import archives
from devkit_api.modules.publish import uploads
from devkit_api.modules.publish.book import COLLECTION
from devkit_api.modules.publish.models import Publication, Status
from devkit_api.modules.publish.routes import DEPLOYMENTS
from devkit_api.modules.publish.service import MOST_OPEN, PublishService
from devkit_api.modules.publish.uploads import Uploads
from devkit_api.modules.routes import REGISTRY
from devkit_api.modules.watcher import ModulesWatcher
from devkit_api.security.authentication import owner_principal
from devkit_api.security.principals import Role
from devkit_api.security.sessions import Sessions
from devkit_api.security.tokens import Signer
from devkit_api.state import StateError
from tests.support.client import snapshot
from tests.support.process import DevkitProcess
from tests.support.publishing import LOCK, pack, request_of, sign, signing_key, submission, write_publishable
from tests.support.waiting import PATIENCE, until, until_async

SECRET = "0123456789abcdef-fake-secret-for-tests"  # pragma: allowlist secret


class Shop:
    """A client that publishes, one step at a time."""

    def __init__(self, client: Any, folder: Path) -> None:
        self.client, self.folder = client, folder

    async def grant(self, asked: dict[str, Any], expect: int = 200, **options: Any) -> dict[str, Any]:
        return await self._post("/v1/modules/publish/source-upload", asked, expect, **options)

    async def submit(self, asked: dict[str, Any], expect: int = 202, **options: Any) -> dict[str, Any]:
        return await self._post("/v1/modules/publish", asked, expect, **options)

    async def _post(self, path: str, body: dict[str, Any], expect: int, **options: Any) -> dict[str, Any]:
        # Another caller's headers replace the key, instead of coming with it.
        session = self.client.anonymous if "Authorization" in (options.get("headers") or {}) else self.client
        url = self.client.make_url(path) if session is not self.client else path
        answer = await session.post(url, json=body, **options)
        found = await answer.json()
        assert answer.status == expect, found
        return found

    async def put(self, url: str, data: bytes, expect: int = 200) -> dict[str, Any]:
        parts = urlsplit(url)
        answer = await self.client.anonymous.put(
            self.client.make_url(parts.path).with_query(dict(parse_qsl(parts.query))), data=data
        )
        assert answer.status == expect, await answer.text()
        return {} if expect == 200 else await answer.json()

    async def end(self, publish_id: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await (await self.client.get(f"/v1/modules/publish/{publish_id}")).json()
                if found["status"] in {"completed", "failed"}:
                    return found

    async def publish(self, archive: bytes | None = None, **changes: Any) -> dict[str, Any]:
        archive = pack(self.folder) if archive is None else archive
        asked = request_of(self.folder, archive, **changes)
        await self.put((await self.grant(asked))["uploadUrl"], archive)
        return await self.end((await self.submit(submission(asked)))["publishId"])

    async def versions(self) -> int:
        return (await self.client.get(f"/v1/modules/{self.folder.name}")).status


@pytest.fixture
async def shop(make_client: Callable[..., Any], tmp_path: Path) -> Shop:
    return Shop(await make_client(jwt_secret=SECRET), write_publishable(tmp_path / "wares"))


def code(answer: dict[str, Any]) -> str:
    return str(answer["error"]["code"])


async def test_a_publication_completes_and_leaves_no_archive(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    discard = Uploads.discard

    async def watched_discard(uploads: Uploads, publish_id: str) -> None:
        told.append((await (await shop.client.get(f"/v1/modules/publish/{publish_id}")).json())["status"])
        await discard(uploads, publish_id)

    monkeypatch.setattr(Uploads, "discard", watched_discard)
    done = await shop.publish()
    assert (done["status"], done["moduleId"], done["version"]) == ("completed", "wares", "1.0.0")
    assert told == ["in_progress"], "the outcome was announced before the archive was gone"
    assert list((shop.client.app_state / "publish-uploads").iterdir()) == []
    module = await (await shop.client.get("/v1/modules/wares")).json()
    assert module["source"]["origin"] == "published"


async def test_the_same_publication_again_is_the_same_one(shop: Shop) -> None:
    archive = pack(shop.folder)
    asked = request_of(shop.folder, archive)
    grant = await shop.grant(asked)
    await shop.put(grant["uploadUrl"], archive)
    first = await shop.submit(submission(asked))
    # As a client does that did not hear the answer: everything once more, signed anew.
    again = {**asked, "manifest": sign(json.loads((shop.folder / "manifest.json").read_text()))}
    await shop.put((await shop.grant(again))["uploadUrl"], archive)
    second = await shop.submit(submission(again))
    assert first["publishId"] == second["publishId"] == grant["publishId"]
    assert (await shop.end(first["publishId"]))["status"] == "completed"
    # A replayed address changes nothing, and leaves nothing.
    await shop.put(grant["uploadUrl"], archive)
    assert list((shop.client.app_state / "publish-uploads").iterdir()) == []


async def test_submitting_what_was_not_uploaded_is_refused(shop: Shop) -> None:
    asked = request_of(shop.folder, pack(shop.folder))
    assert code(await shop.submit(submission(asked), 409)) == "SOURCE_NOT_UPLOADED"
    await shop.grant(asked)
    assert code(await shop.submit(submission(asked), 409)) == "SOURCE_NOT_UPLOADED"
    assert await shop.versions() == 404


async def test_other_bytes_than_announced_are_not_stored(shop: Shop) -> None:
    archive = pack(shop.folder)
    asked = request_of(shop.folder, archive)
    url = (await shop.grant(asked))["uploadUrl"]
    altered = archive[:-1] + bytes([archive[-1] ^ 1])
    for wrong in (altered, archive + b"x", archive[:-1], b""):
        assert code(await shop.put(url, wrong, 422)) == "CHECKSUM_MISMATCH"
    assert list((shop.client.app_state / "publish-uploads").iterdir()) == []
    assert code(await shop.submit(submission(asked), 409)) == "SOURCE_NOT_UPLOADED"


@pytest.mark.parametrize("change", ["Expires", "Size", "Sha256", "Signature"])
async def test_an_altered_address_is_refused(shop: Shop, change: str) -> None:
    archive = pack(shop.folder)
    url = urlsplit((await shop.grant(request_of(shop.folder, archive)))["uploadUrl"])
    query = dict(parse_qsl(url.query))
    query[change] = query[change][:-1] + ("1" if query[change][-1] != "1" else "2")
    wrong = url._replace(query=urlencode(query)).geturl()
    assert code(await shop.put(wrong, archive, 403)) == "SIGNATURE_INVALID"
    other = url._replace(path=url.path[:-1] + ("0" if url.path[-1] != "0" else "1")).geturl()
    assert code(await shop.put(other, archive, 403)) == "SIGNATURE_INVALID"


async def test_an_expired_address_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(shop.folder)
    grant = await shop.grant(request_of(shop.folder, archive))
    later = time.time() + uploads.GRANT_SECONDS + 1
    monkeypatch.setattr(uploads.time, "time", lambda: later)
    assert code(await shop.put(grant["uploadUrl"], archive, 403)) == "SIGNATURE_INVALID"


async def test_a_publication_is_its_users_alone(shop: Shop) -> None:
    sessions = Sessions(SECRET, "hla-compass-devkit", "hla-compass-devkit", "00000000-0000-4000-8000-00000000d0e1")
    other = {"Authorization": f"Bearer {sessions.issue('somebody-else', Role.DEVELOPER)}"}
    weak = {"Authorization": f"Bearer {sessions.issue('a-user', Role.USER)}"}
    archive = pack(shop.folder)
    asked = request_of(shop.folder, archive)
    grant = await shop.grant(asked)
    await shop.put(grant["uploadUrl"], archive)
    # The same key and evidence from another user is another publication, whose source is not there.
    assert code(await shop.submit(submission(asked), 409, headers=other)) == "SOURCE_NOT_UPLOADED"
    address = shop.client.make_url(f"/v1/modules/publish/{grant['publishId']}")
    hidden = await shop.client.anonymous.get(address, headers=other)
    assert (hidden.status, code(await hidden.json())) == (404, "PUBLICATION_NOT_FOUND")
    assert code(await shop.grant(asked, 403, headers=weak)) == "FORBIDDEN"
    assert code(await shop.grant({**asked, "orgId": "another"}, 403)) == "FORBIDDEN"
    assert (await shop.end((await shop.submit(submission(asked)))["publishId"]))["status"] == "completed"


async def test_a_key_stands_for_one_publication(shop: Shop) -> None:
    archive = pack(shop.folder)
    asked = request_of(shop.folder, archive)
    await shop.put((await shop.grant(asked))["uploadUrl"], archive)
    await shop.submit(submission(asked))
    assert code(await shop.grant({**asked, "sha256": "0" * 64}, 409)) == "PUBLICATION_CONFLICT"
    assert code(await shop.submit(submission(asked, scope="public"), 409)) == "PUBLICATION_CONFLICT"
    header = {"Idempotency-Key": "another"}
    assert code(await shop.submit(submission(asked), 409, headers=header)) == "PUBLICATION_CONFLICT"


async def test_two_publications_of_one_version_race_and_one_wins(shop: Shop) -> None:
    archives = [pack(shop.folder, {"backend/data.txt": text}) for text in (b"one", b"two", b"three")]
    ended = await asyncio.gather(*(shop.publish(archive) for archive in archives))
    assert sorted(done["status"] for done in ended) == ["completed", "failed", "failed"]
    assert {done.get("failureCode") for done in ended} == {None, "MODULE_VERSION_PUBLISHED"}
    # The winner's again, under a new key: nothing changes, and it is said to be there.
    winner = next(archive for archive, done in zip(archives, ended, strict=True) if done["status"] == "completed")
    assert (await shop.publish(winner))["status"] == "completed"


async def test_a_published_version_is_not_replaced_by_other_means(shop: Shop) -> None:
    await shop.publish()
    sent = {"manifest": json.loads((shop.folder / "manifest.json").read_text())}
    answer = await shop.client.post("/v1/devkit/modules", json=sent)
    assert (answer.status, code(await answer.json())) == (409, "MODULE_VERSION_PUBLISHED")


async def test_an_edit_of_a_published_version_is_told_until_it_is_taken_back_or_the_version_raised(shop: Shop) -> None:
    registry = shop.client.server.app[REGISTRY]
    watcher = ModulesWatcher(registry, shop.folder.parent, ignored=shop.client.app_state)

    async def problem(version: str = "") -> str | None:
        query = {"version": version} if version else {}
        told = (await (await shop.client.get("/v1/modules/wares", params=query)).json())["sourceStatus"]
        assert told["ok"] is (told["problem"] is None)
        return told["problem"]

    await shop.publish()
    await watcher.scan()
    assert await problem() is None
    source, manifest = shop.folder / "backend" / "main.py", shop.folder / "manifest.json"
    published, first = source.read_text(), manifest.read_text()
    source.write_text(published + "\nEDITED = True\n")
    await watcher.scan()
    told = await problem()
    assert told is not None
    assert "Version 1.0.0 of module 'wares' is published" in told
    assert "Raise `version`" in told
    await registry.load()
    assert await problem() == told, "kept over a restart"
    source.write_text(published)
    await watcher.scan()
    assert await problem() is None
    source.write_text(published + "\nEDITED = True\n")
    await watcher.scan()
    manifest.write_text(first.replace('"version": "1.0.0"', '"version": "1.0.1"'))
    await watcher.scan()
    assert registry.get("wares").version == "1.0.1"
    assert (await problem(), await problem("1.0.0")) == (None, None)


SIGNATURES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "changed": lambda m: {**m, "description": "other"},
    "unsigned": lambda m: {k: v for k, v in m.items() if k != "signature"},
    "another key": lambda m: {**m, **{k: sign({}, signing_key(3072))[k] for k in ("publicKey", "keyFingerprint")}},
    "weak key": lambda m: sign({k: v for k, v in m.items() if k in PLAIN}, signing_key(1024)),
    "hidden below": lambda m: sign({**{k: v for k, v in m.items() if k in PLAIN}, "metadata": {"signature": "x"}}),
    "no base64": lambda m: {**m, "signature": "!!"},
    "algorithm": lambda m: {**m, "signatureAlgorithm": "none"},
    "list": lambda m: {**m, "publicKey": ["x"]},
}  # fmt: skip
PLAIN = {"schemaVersion", "name", "version", "type", "computeType", "description", "execution", "resources"}


@pytest.mark.parametrize("kind", SIGNATURES)
async def test_a_signature_that_does_not_fit_is_refused_at_once(shop: Shop, kind: str) -> None:
    archive = pack(shop.folder)
    asked = request_of(shop.folder, archive)
    refused = await shop.grant({**asked, "manifest": SIGNATURES[kind](asked["manifest"])}, 422)
    assert code(refused) == "MANIFEST_SIGNATURE_INVALID"


async def test_an_archive_with_another_manifest_than_the_signed_one_fails(shop: Shop) -> None:
    signed = sign({**json.loads((shop.folder / "manifest.json").read_text()), "description": "harmless"})
    done = await shop.publish(manifest=signed)
    assert (done["status"], done["failureCode"], done["failurePhase"]) == ("failed", "MANIFEST_INVALID", "manifest")
    assert "/description" in done["failureReason"]
    assert await shop.versions() == 404


LOCKS = {
    "missing": None,
    "without hashes": b"hla-compass==6.0.2\n",
    "one without": LOCK.encode() + b"numpy==2.1.0\n",
    "hash of another kind": b"hla-compass==6.0.2 --hash=md5:00\n",
    "another wheel": f"hla-compass==6.0.2 --hash=sha256:{'0' * 64}\n".encode(),
    "other version": LOCK.replace("6.0.2", "6.0.1").encode(),
    "not pinned": (LOCK + f"numpy>=2 --hash=sha256:{'0' * 64}\n").encode(),
    "an index": b"--index-url https://evil.invalid/simple\n" + LOCK.encode(),
    "not text": b"\xff\xfe",
    "empty": b"",
}


@pytest.mark.parametrize("kind", LOCKS)
async def test_a_lock_that_locks_nothing_fails(shop: Shop, kind: str) -> None:
    path = shop.folder / "backend" / "requirements.lock.txt"
    path.unlink()
    data = LOCKS[kind]
    if data is not None:
        path.write_bytes(data)
    done = await shop.publish()
    assert (done["status"], done["failureCode"], done["failurePhase"]) == (
        "failed", "DEPENDENCY_LOCK_INVALID", "dependencies"
    )  # fmt: skip
    assert await shop.versions() == 404


async def test_a_lock_that_lacks_a_requirement_fails(shop: Shop) -> None:
    (shop.folder / "backend" / "requirements.txt").write_text("hla-compass==6.0.2\nnumpy==2.1.0\n")
    assert (await shop.publish())["failureCode"] == "DEPENDENCY_LOCK_INVALID"


def link(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def many(count: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(count):
            archive.writestr(f"f{number}", b"")
    return buffer.getvalue()


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "not a zip": lambda _: b"PK\x03\x04 but nothing more",
    "bomb": lambda f: pack(f, {"backend/zeros.bin": bytes(30_000_000)}),
    "climbs out": lambda f: pack(f, {"../../outside.txt": b"x"}),
    "absolute": lambda f: pack(f, {"/tmp/outside.txt": b"x"}),
    "link": lambda _: link("backend/link"),
    "many files": lambda _: many(10_001),
    "no manifest": lambda _: many(3),
    "huge directory": lambda f: pack(f)[:-10] + (2**31).to_bytes(4, "little") + pack(f)[-6:],
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_archive_fails_and_leaves_nothing(shop: Shop, kind: str) -> None:
    before = snapshot(shop.client.app_state)
    uploads = shop.client.app_state / "publish-uploads"
    waiting = {path.name for path in uploads.iterdir()}
    done = await shop.publish(HOSTILE[kind](shop.folder))
    assert (done["status"], done["failureCode"], done["failurePhase"]) == ("failed", "SOURCE_INVALID", "archive")
    assert {path.name for path in uploads.iterdir()} == waiting
    left = snapshot(shop.client.app_state).keys() - before.keys()
    assert not [name for name in left if not name.startswith(("publications", "lock"))]
    assert await shop.versions() == 404


async def test_a_giant_is_refused_before_it_comes(make_client: Callable[..., Any], tmp_path: Path) -> None:
    shop = Shop(await make_client(max_source_bytes=2048), write_publishable(tmp_path / "wares"))
    archive = pack(shop.folder)
    refused = await shop.grant(request_of(shop.folder, archive, sizeBytes=2049), 413)
    assert code(refused) == "SOURCE_TOO_LARGE"
    url = (await shop.grant(request_of(shop.folder, archive, sizeBytes=100)))["uploadUrl"]
    assert code(await shop.put(url, bytes(4096), 413)) == "BODY_TOO_LARGE"


async def test_open_publications_are_bounded(shop: Shop) -> None:
    archive = pack(shop.folder)
    for _ in range(MOST_OPEN):
        await shop.grant(request_of(shop.folder, archive))
    assert code(await shop.grant(request_of(shop.folder, archive), 429)) == "PUBLICATIONS_OPEN"


async def test_an_archive_inside_the_body_is_taken_as_well(shop: Shop) -> None:
    archive = pack(shop.folder)
    asked = request_of(shop.folder, archive)
    body = submission(asked)
    del body["sourceUpload"]
    done = await shop.submit({**body, "sourceZipBase64": base64.b64encode(archive).decode()})
    assert (await shop.end(done["publishId"]))["status"] == "completed"
    assert code(await shop.submit({**body, "sourceZipBase64": "%"}, 400)) == "BODY_INVALID"
    assert code(await shop.submit(body, 422)) == "REQUEST_INVALID"


async def test_a_publication_whose_archive_was_lost_fails_truthfully(shop: Shop) -> None:
    archive = pack(shop.folder)
    asked = request_of(shop.folder, archive)
    grant = await shop.grant(asked)
    store, registry = shop.client.app[STORE], shop.client.app[REGISTRY]
    document = await store.get(COLLECTION, grant["publishId"])
    interrupted = Publication.from_document({**document, "status": Status.IN_PROGRESS.value})
    await store.put(COLLECTION, interrupted.publish_id, interrupted.to_document())
    # What the next start does with what is stored.
    folder = Uploads(shop.client.app_state / "publish-uploads", Signer(SECRET))
    viewer = owner_principal(interrupted.user_id, interrupted.organization_id)
    restarted = PublishService(store, registry, folder, "org", 1_000_000)
    await restarted.open()
    try:
        await until_async(lambda: restarted.get(interrupted.publish_id, viewer).is_terminal)
        failure = restarted.get(interrupted.publish_id, viewer).failure
        assert failure is not None
        assert failure.code == "SOURCE_NOT_UPLOADED"
    finally:
        await restarted.close()


def fill_disk(shop: Shop, monkeypatch: pytest.MonkeyPatch, *refused: str) -> list[str]:
    """There is no room for documents that show this phase or status, each in its turn; what was refused."""
    store, met = shop.client.app[STORE], list[str]()
    real = store.put

    async def put(collection: str, key: str, document: dict[str, Any]) -> None:
        if len(met) < len(refused) and refused[len(met)] in {document.get("phase"), document.get("status")}:
            met.append(refused[len(met)])
            raise StateError("No space left on device")
        await real(collection, key, document)

    monkeypatch.setattr(store, "put", put)
    return met


async def test_a_publication_goes_on_once_a_full_disk_has_room(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = fill_disk(shop, monkeypatch, "archive", "failed", "completed")
    done = await shop.publish()
    assert refused == ["archive", "failed", "completed"]
    assert (done["status"], done["moduleId"]) == ("completed", "wares")
    assert list((shop.client.app_state / "publish-uploads").iterdir()) == []


async def test_a_deployment_goes_on_once_a_full_disk_has_room(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.publish()
    module = await (await shop.client.get("/v1/modules/wares")).json()
    refused = fill_disk(shop, monkeypatch, "deployed", "deployed")
    deployments = shop.client.app[DEPLOYMENTS]
    made, _ = await deployments.deploy(module["uuid"], None, "auto")
    await until_async(lambda: deployments.get(module["uuid"], made.deployment_id).status == "deployed")
    assert refused == ["deployed", "deployed"]


async def test_a_deployment_does_not_outlive_a_reset(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.publish()
    module = await (await shop.client.get("/v1/modules/wares")).json()
    deployments, store = shop.client.app[DEPLOYMENTS], shop.client.app[STORE]
    put, arrived, go_on = store.put, asyncio.Event(), asyncio.Event()

    async def held(collection: str, key: str, document: dict[str, Any]) -> None:
        if document.get("status") == "deployed":
            arrived.set()
            await go_on.wait()
        await put(collection, key, document)

    monkeypatch.setattr(store, "put", held)
    await deployments.deploy(module["uuid"], None, "auto")
    checking = list(deployments._tasks)
    await arrived.wait()
    assert (await shop.client.post("/v1/devkit/reset")).status == 200
    go_on.set()
    await asyncio.wait(checking)
    assert [key async for key, _ in store.scan("deployments")] == []
    assert deployments._known == {}


def ended(publication: dict[str, Any]) -> dict[str, Any] | None:
    return None if publication["status"] == "in_progress" else publication


@pytest.mark.process
def test_what_was_accepted_is_finished_after_a_kill(make_devkit: Callable[..., DevkitProcess], tmp_path: Path) -> None:
    accepted = []
    devkit = make_devkit().start()
    for number in range(2):
        folder = write_publishable(tmp_path / f"wares-{number}")
        archive = pack(folder, {"backend/data.bin": bytes(range(256)) * 4000})
        asked = request_of(folder, archive)
        grant = devkit.request("POST", "/v1/modules/publish/source-upload", json=asked).json()
        assert devkit.request("PUT", grant["uploadUrl"].removeprefix(devkit.endpoint), data=archive).ok
        assert devkit.request("POST", "/v1/modules/publish", json=submission(asked)).status_code == 202
        devkit.kill()
        accepted.append((folder.name, grant["publishId"]))
        devkit.start()
    for name, publish_id in accepted:
        found = until(lambda at=f"/v1/modules/publish/{publish_id}": ended(devkit.request("GET", at).json()))
        assert found["status"] == "completed", found
        assert devkit.wait(devkit.run(name)["runId"])["status"] == "completed"


def test_a_directory_that_would_fill_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(many(100))
    archives.check_directory(path)
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(SourceInvalid, match="too many files"):
        archives.check_directory(path)
    with pytest.raises(SourceInvalid, match="64-bit"):
        archives.check_directory(Path(shutil.copy(as_64_bit(path), tmp_path / "y.zip")))


def as_64_bit(path: Path) -> Path:
    """With the locator of a 64-bit directory before the end, which the reader would believe."""
    data = path.read_bytes()
    path.write_bytes(data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:])
    return path
