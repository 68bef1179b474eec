"""Causes in the batch store: a folder, and servers that speak the protocol of S3."""

import shutil
from collections.abc import Callable

from tests.failures.advice.ledger import INCREMENTAL
from tests.failures.advice.steps import Command, Scene
from tests.failures.conftest import Shop
from tests.failures.test_databases import fill, small_disk
from tests.s3 import KEY, batch_env, s3_answering, s3_server
from tests.servers import free_port

BUCKET = "techmarket-batches"


def folder_env(shop: Shop) -> dict[str, str]:
    return {"ETL_BATCH_URL": f"file://{shop.folder}/batches"}


def folder_that_is_a_file(shop: Shop) -> Scene:
    """Root may write anywhere, so that a missing right cannot be produced."""
    (shop.folder / "batches").write_text("")
    yield Command(env=folder_env(shop))
    (shop.folder / "batches").unlink()
    yield Command(env=folder_env(shop))


def full_folder(shop: Shop) -> Scene:
    with small_disk(shop.folder / "batches", 8) as disk:
        fill(disk, leave=0)
        yield Command(env=folder_env(shop))
        (disk / "ballast").unlink()
        yield Command(env=folder_env(shop))


def stopped_store(shop: Shop) -> Scene:
    port = free_port()
    yield Command(env=batch_env(port, BUCKET))
    with s3_server(port) as s3:
        s3.create_bucket(BUCKET)
        yield Command(env=s3.env(BUCKET))


def plain_store(shop: Shop) -> Scene:
    """The address lacks scheme=http."""
    with s3_server() as s3:
        s3.create_bucket(BUCKET)
        env = s3.env(BUCKET)
        yield Command(env=env | {"ETL_BATCH_URL": env["ETL_BATCH_URL"].replace("scheme=http&", "")})
        yield Command(env=env)


def missing_bucket(shop: Shop) -> Scene:
    with s3_server() as s3:
        yield Command(env=s3.env(BUCKET))
        s3.create_bucket(BUCKET)
        yield Command(env=s3.env(BUCKET))


def wrong_key(shop: Shop) -> Scene:
    with s3_server() as s3:
        s3.create_bucket(BUCKET)
        key_id, key = s3.create_user("s3:*")
        s3.check_keys()
        yield Command(env=s3.env(BUCKET, key_id, KEY))
        yield Command(env=s3.env(BUCKET, key_id, key))


def key_without_rights(shop: Shop) -> Scene:
    with s3_server() as s3:
        s3.create_bucket(BUCKET)
        reader, writer = s3.create_user("s3:GetObject"), s3.create_user("s3:*")
        s3.check_keys()
        yield Command(env=s3.env(BUCKET, *reader))
        yield Command(env=s3.env(BUCKET, *writer))


def answering(status: str, code: str) -> Callable[[Shop], Scene]:
    """A server that refuses everything in this way, and takes it once the step is taken, which is a matter of its own or of a clock."""

    def scene(shop: Shop) -> Scene:
        with s3_answering(status, code) as port:
            yield Command(env=batch_env(port, BUCKET))
        with s3_server(port) as s3:
            s3.create_bucket(BUCKET)
            yield Command(env=s3.env(BUCKET))

    scene.__name__ = f"store_that_answers_{code}"
    return scene


def stopped_run(shop: Shop, env: dict[str, str]) -> None:
    """Leave a run that the brakes have stopped, with all that it has landed."""
    shop.sql("payments_db", "DELETE FROM payments")
    assert shop.run(*INCREMENTAL, env=env).returncode == 5


RESUME = (*INCREMENTAL, "--resume", "2", "--accept", "test")
WITHOUT_BRAKES = {"ETL_MAX_MONTH_PERCENT": "100", "ETL_MAX_DELETED_PERCENT": "100"}


def deleted_object(shop: Shop) -> Scene:
    env = folder_env(shop)
    stopped_run(shop, env)
    for run in (shop.folder / "batches").iterdir():
        shutil.rmtree(run)
    yield Command(RESUME, env=env)
    yield Command(env=env | WITHOUT_BRAKES)


def emptied_setting(shop: Shop) -> Scene:
    env = folder_env(shop)
    stopped_run(shop, env)
    yield Command(RESUME)
    yield Command((*INCREMENTAL, "--resume", "2"), env=env)
