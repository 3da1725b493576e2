"""One call, one answer: what the page of a module posts when it runs alone (wire-contract I)."""

from __future__ import annotations

from aiohttp import web

from devkit_api.describe import describe
from devkit_api.errors import (
    InputInvalid,
    ModuleNotChosen,
    ModuleNotFound,
    ModuleSuspended,
    ModuleUnsupported,
    OutputDamaged,
    QueueFull,
    RunNotFinished,
)
from devkit_api.httpio import json_answer, read_body
from devkit_api.middleware.authentication import PRINCIPAL
from devkit_api.modules.routes import REGISTRY
from devkit_api.routing import Route
from devkit_api.runs.routes import INTERACTIVE_TIMEOUT, RUNS
from devkit_api.runs.schemas import ExecuteSchema

_EXECUTE = ExecuteSchema()


@describe(
    body=ExecuteSchema,
    example={"module": "peptide-counter", "input": {}},
    answer={"type": "object", "description": "The module's output envelope."},
    errors=(
        ModuleNotFound, ModuleNotChosen, ModuleSuspended, ModuleUnsupported, InputInvalid, QueueFull, RunNotFinished,
        OutputDamaged,
    ),
)  # fmt: skip
async def execute(request: web.Request) -> web.Response:
    """`POST /api/execute` `{"input", "module"?}`: run the module and answer its output envelope.

    Without `module` it is the only registered module that has a page. An envelope may tell of an error of the module,
    as it does on the platform; a run that has not ended in time is an error of this call, and goes on.
    """
    runs = request.app[RUNS]
    body = await read_body(request, _EXECUTE)
    registry = request.app[REGISTRY]
    module = registry.get(body["module"]) if "module" in body else registry.only_with_page()
    start = {"moduleId": module.module_id, "parameters": body["input"]}
    if "interactive" in module.modes:
        start["mode"] = "interactive"
    run = (await runs.admission.start(start, request[PRINCIPAL])).run
    run = await runs.watch.until_finished(run.run_id, request.app[INTERACTIVE_TIMEOUT]) or run
    if not run.is_terminal:
        raise RunNotFinished(run_id=run.run_id, status=run.status.value, details={"runId": run.run_id})
    return json_answer(await runs.output(run))


ROUTES = [Route("POST", "/api/execute", execute, "runs:start")]
