"""What the supervisor answers about the whole relay: one scrape over all workers, and how each worker is doing.

Owns two small HTTP sites. `GET /metrics` on `listen.metrics` asks every worker over its control socket; `GET /workers`
on the supervisor's own control socket is for the serve workers, whose `/_ready` names workers that are down.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from relay.app.assignment import control_path, worker_name
from relay.app.slot import WorkerStatus
from relay.net.control import ask
from relay.net.errors import NetError
from relay.net.exchange import Request, Response, error_response, json_response
from relay.observe.exposition import Exposition, merge
from relay.observe.metrics import CONTENT_TYPE, Metrics

SCRAPE_SECONDS = 5.0


class Reporting:
    """Answers for one supervisor. `workers` gives their present status."""

    def __init__(self, workers: Callable[[], Sequence[WorkerStatus]], metrics: Metrics, data_dir: Path) -> None:
        self._workers = workers
        self._metrics = metrics
        self._data_dir = data_dir

    async def answer_metrics(self, request: Request) -> Response:
        """The site on `listen.metrics`."""
        if request.path != "/metrics":
            return error_response(404, "NotFound", "there is only /metrics here")
        if request.method not in ("GET", "HEAD"):
            return error_response(405, "MethodNotAllowed", "use GET", (("Allow", "GET, HEAD"),))
        return Response(200, (("Content-Type", CONTENT_TYPE),), await self.scrape())

    async def answer_control(self, request: Request) -> Response:
        """The site on the supervisor's control socket: `GET /workers` is a JSON list of `WorkerStatus`."""
        if (request.method, request.path) != ("GET", "/workers"):
            return error_response(404, "NotFound", "there is only GET /workers here")
        return json_response(200, list(self._workers()))

    async def scrape(self) -> bytes:
        """The exposition of all workers that answer in time, and of the supervisor, in the order of the crew."""
        answers: dict[int, Exposition] = {}
        async with trio.open_nursery() as nursery:
            for place, worker in enumerate(self._workers()):
                if worker.up:
                    nursery.start_soon(self._ask_worker, place, worker, answers)
        own = Exposition("supervisor", 0, self._metrics.render())
        return merge([own, *(answers[place] for place in sorted(answers))])

    async def _ask_worker(self, place: int, worker: WorkerStatus, answers: dict[int, Exposition]) -> None:
        path = control_path(self._data_dir, worker_name(worker.role, worker.worker))
        try:
            text = await ask(path, "GET", "/metrics", timeout_seconds=SCRAPE_SECONDS)
        except NetError:
            return  # relay_worker_up says it, once the next health check has failed too
        answers[place] = Exposition(worker.role, worker.worker, text)
