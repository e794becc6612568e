"""Commands about how long things live: jobs, erasing somebody, taking one's data along."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import msgspec
import typer

from chatclient.cli.common import AS, DATA, JSON, URL, Fail, api_as, base_url, out, run
from chatclient.errors import Unreachable
from chatclient.files import read_json
from chatclient.http import Api, problem_of
from chatkernel.errors import ChatError
from chatkernel.jobs import JobView, OpsJob
from chatkernel.opstoken import ops_token
from chatkernel.settings import SecretFile
from chatkernel.storage.model import JobState

DATA_DEFAULT = Path(".chatcluster")
OPS_TOKEN_ENV = "CHATCTL_OPS_TOKEN"  # noqa: S105 - a name
POLL_S = 0.5
REQUEST_TIMEOUT_S = 30.0

T = TypeVar("T")

Token = Annotated[
    str | None,
    typer.Option(
        "--ops-token",
        envvar=OPS_TOKEN_ENV,
        help="The operations token. [default: made from the data directory's secrets]",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Until it is done.")]


class _Jobs(msgspec.Struct, frozen=True):
    jobs: list[OpsJob]


def register(app: typer.Typer) -> None:
    for command in (jobs, erase, export):
        app.command()(command)


def jobs(url: URL = None, data: DATA = DATA_DEFAULT, token: Token = None, as_json: JSON = False) -> None:
    """Retention, erasures and exports: what is under way, waits, or has ended."""

    async def work() -> None:
        found = (await _ops("GET", "/v1/ops/jobs", None, _Jobs, url=url, data=data, token=token)).jobs
        if as_json:
            out(as_json, found, "")
            return
        for job in found:
            error = f"  {job.error} ({job.failures} in a row)" if job.error else ""
            age = max(0, int(time.time() - job.updated_at / 1000))
            typer.echo(
                f"{job.job_id}  {job.kind:9}  {job.state:7}  {job.subject:20}  {job.progress:>10}  {age} s ago{error}"
            )

    run(work())


def erase(  # noqa: PLR0917 - options of a command line
    user: Annotated[str, typer.Argument(help="A user name or user id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Wait = False,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    token: Token = None,
    as_json: JSON = False,
) -> None:
    """Erase a person: the account, all that is kept of it, and everything they wrote. Cannot be undone."""
    if not yes:
        typer.confirm(f"Erase {user} and everything they wrote, for good?", abort=True, err=True)

    async def work() -> None:
        job = await _ops("POST", "/v1/ops/erasures", {"user": user}, JobView, url=url, data=data, token=token)
        if wait:
            api = Api(await base_url(url, data))
            try:
                job = await _until_ended(
                    api, lambda: api.call("GET", f"/v1/jobs/{job.job_id}", kind=JobView, auth=False)
                )
            finally:
                await api.close()
        out(as_json, job, f"{job.job_id}: {job.state}")

    run(work())


def export(
    name: AS,
    file: Annotated[Path | None, typer.Option("--out", help="Where to. [default: NAME.tar.gz]")] = None,
    url: URL = None,
    data: DATA = DATA_DEFAULT,
    as_json: JSON = False,
) -> None:
    """Have an archive of your data made, wait for it, and save it."""

    async def work() -> None:
        target = file or Path(f"{name}.tar.gz")
        api = await api_as(name, url, data)
        try:
            job = await _asked(api)
            job = await _until_ended(api, lambda: api.call("GET", "/v1/me/export", kind=JobView))
            if job.state is JobState.FAILED:
                raise Fail(f"the archive could not be made: {job.error}")
            size = await _download(api, target)
        finally:
            await api.close()
        out(as_json, {"file": str(target), "bytes": size}, f"{target}: {size} bytes")

    run(work())


async def _asked(api: Api) -> JobView:
    """An archive of the last hour will do."""
    try:
        return await api.call("POST", "/v1/me/export", kind=JobView, retry=False)
    except ChatError as error:
        if error.retry_after_s is None:
            raise
    return await api.call("GET", "/v1/me/export", kind=JobView)


async def _until_ended(api: Api, look: Callable[[], Any]) -> JobView:
    while True:
        job: JobView = await look()
        if job.state in (JobState.DONE, JobState.FAILED):
            return job
        await asyncio.sleep(POLL_S)


async def _download(api: Api, target: Path) -> int:
    """Piece by piece into a file beside, which gets the name when it is whole. Raises ChatError, Unreachable."""
    headers = {"authorization": f"Bearer {await api.access_token()}"}
    part = target.with_name(target.name + ".part")
    size = 0
    async with httpx.AsyncClient(trust_env=False, timeout=REQUEST_TIMEOUT_S) as http:
        try:
            async with http.stream("GET", f"{api.base_url}/v1/me/export/archive", headers=headers) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise problem_of(answer)
                with part.open("wb") as saved:
                    part.chmod(0o600)
                    async for piece in answer.aiter_raw():
                        size += saved.write(piece)
        except httpx.HTTPError as error:
            raise Unreachable(f"the archive broke off ({type(error).__name__})") from error
    part.replace(target)
    return size


async def _ops(
    method: str,
    path: str,
    body: object,
    kind: type[T],
    *,
    url: str | None,
    data: Path,
    token: str | None,
) -> T:
    """A request with the operations token. Raises ChatError, Unreachable, Fail."""
    headers = {"authorization": f"Bearer {token or _own_token(data)}"}
    base = (await base_url(url, data)).rstrip("/")
    async with httpx.AsyncClient(trust_env=False, timeout=REQUEST_TIMEOUT_S) as http:
        try:
            answer = await http.request(method, base + path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"nothing answers at {base} ({type(error).__name__})") from error
    if answer.status_code >= 400:
        raise problem_of(answer)
    return msgspec.json.decode(answer.content, type=kind)


def _own_token(data: Path) -> str:
    secrets = read_json(data / "secrets.json", SecretFile)
    if secrets is None:
        raise Fail(f"no operations token: give --ops-token, set {OPS_TOKEN_ENV}, or name the data directory")
    return ops_token(secrets)
