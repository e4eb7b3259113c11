"""The batch APIs of the simulated upstream: OpenAI's, with files, Anthropic's message batches, Gemini's inline ones.
The OpenAI dialect has Azure's too, below `/openai`, whose files take a while, and Mistral's, at `/v1/batch/jobs`.

A batch has ended at the second look. Its lines are answered as single requests would be, faults included, and come
back in another order than they were sent in. A line whose fault breaks the connection is one that expired.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from proxy.simulated.answer import Complaint
from proxy.simulated.dialect import Request
from proxy.simulated.reply import Part, Reply

Json = dict[str, Any]

Ask = Callable[[str, Json], tuple[int, bytes]]
"""Path and body of a request alone -> status and body of its answer; status 0 where there is no whole answer."""

_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?')


class _Line(NamedTuple):
    id: str
    path: str
    body: Json


class _Job:
    def __init__(self, id: str, lines: list[_Line], model: str = "") -> None:
        self.id = id
        self.lines = lines
        self.model = model
        self.looks = 0
        self.cancelled = False

    def look(self) -> bool:
        """Whether it has ended."""
        self.looks += 1
        return self.cancelled or self.looks >= 2


class Batches:
    """What one simulated account has under way."""

    def __init__(self, dialect: str, ask: Ask) -> None:
        self._ask = ask
        self._serve = {"openai": self._openai, "anthropic": self._anthropic, "gemini": self._gemini}.get(dialect)
        self._files: dict[str, bytes] = {}
        self._unread: set[str] = set()
        """Files that Azure has not looked through: it has at the second look."""
        self._jobs: dict[str, _Job] = {}
        self.submitted = 0
        """Batches that were taken."""

    def serve(self, request: Request) -> Reply | None:
        """None for what is no batch API. Raises `Complaint`."""
        return self._serve(request) if self._serve is not None else None

    def _submit(self, prefix: str, lines: list[_Line], model: str = "") -> _Job:
        if not lines:
            raise Complaint(400, "A batch needs at least one request")
        self.submitted += 1
        job = self._jobs[f"{prefix}{self.submitted}"] = _Job(f"{prefix}{self.submitted}", lines, model)
        return job

    def _job(self, id: str) -> _Job:
        if id not in self._jobs:
            raise Complaint(404, f"No such batch: {id}")
        return self._jobs[id]

    def _results(self, job: _Job) -> list[tuple[_Line, int, Json]]:
        """In reverse; a cancelled batch has the answers of its first half."""
        kept = job.lines[: len(job.lines) // 2] if job.cancelled else job.lines
        found = []
        for line in reversed(kept):
            status, body = self._ask(line.path, line.body)
            if status:
                found.append((line, status, orjson.loads(body)))
        return found

    # -- OpenAI

    def _openai(self, request: Request) -> Reply | None:
        azure = request.path.startswith("/openai/")
        path, method = request.path.removeprefix("/openai").removeprefix("/v1"), request.method
        if path == "/files" and method == "POST":
            id = f"file-up{len(self._files)}"
            self._files[id] = _form_file(request)
            if azure:
                self._unread.add(id)
            return _json(self._file(id))
        if re.fullmatch(r"/files/[^/]+", path) and method == "GET":
            told = self._file(path.split("/")[2])
            self._unread.discard(told["id"])
            return _json(told)
        if path.startswith("/files/") and path.endswith("/content") and method == "GET":
            id = path.split("/")[2]
            if id not in self._files:
                raise Complaint(404, f"No such File object: {id}")
            return Reply(200, [("content-type", "application/octet-stream")], [Part(self._files[id])])
        if path == "/batches" and method == "POST":
            return _json(self._openai_batch(self._openai_submit(request.json)))
        if path.startswith("/batch/jobs"):
            return self._mistral(path, request)
        found = re.fullmatch(r"/batches/([^/]+)(/cancel)?", path)
        if found is None:
            return None
        job = self._job(found[1])
        if found[2]:
            job.cancelled = True
        return _json(self._openai_batch(job, job.look()))

    def _openai_submit(self, asked: object) -> _Job:
        if not isinstance(asked, dict) or asked.get("input_file_id") not in self._files:
            raise Complaint(400, "Invalid 'input_file_id'", param="input_file_id")
        if asked["input_file_id"] in self._unread:
            raise Complaint(
                400, "The input file is in 'pending' state. Only files with status 'Processed' are accepted"
            )
        if asked.get("completion_window") != "24h":
            raise Complaint(400, "Invalid 'completion_window'", param="completion_window")
        lines = []
        for raw in self._files[asked["input_file_id"]].splitlines():
            line = orjson.loads(raw)
            if line.get("method") != "POST" or line.get("url") != asked.get("endpoint"):
                raise Complaint(400, "A line's url must be the batch's endpoint")
            lines.append(_Line(line["custom_id"], f"/v1{line['url'].removeprefix('/v1')}", line["body"]))
        return self._submit("batch_up", lines)

    def _file(self, id: str) -> Json:
        if id not in self._files:
            raise Complaint(404, f"No such File object: {id}")
        status = "pending" if id in self._unread else "processed"
        return {"id": id, "object": "file", "bytes": len(self._files[id]), "purpose": "batch", "status": status}

    def _openai_batch(self, job: _Job, ended: bool = False) -> Json:
        counts = {"total": len(job.lines), "completed": 0, "failed": 0}
        body: Json = {
            "id": job.id, "object": "batch", "endpoint": "/v1/chat/completions", "errors": None,
            "completion_window": "24h", "status": "in_progress", "output_file_id": None, "error_file_id": None,
            "request_counts": counts,
        }  # fmt: skip
        if not ended:
            return body
        files, good, bad = self._put(job)
        body |= {f"{name}_id": id for name, id in files.items()}
        counts |= {"completed": good, "failed": bad}
        body["status"] = "cancelled" if job.cancelled else "completed"
        return body

    def _put(self, job: _Job) -> tuple[dict[str, str], int, int]:
        """Its results as files, and how many lines succeeded and failed."""
        good: list[Json] = []
        bad: list[Json] = []
        for line, status, answer in self._results(job):
            response = {"status_code": status, "request_id": f"req-{line.id}", "body": answer}
            told = {"id": f"batch_req_{line.id}", "custom_id": line.id, "response": response, "error": None}
            (good if status == 200 else bad).append(told)
        files = {}
        for name, lines in (("output_file", good), ("error_file", bad)):
            if lines:
                files[name] = f"file-{name[:3]}-{job.id}"
                self._files[files[name]] = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        return files, len(good), len(bad)

    # -- Mistral

    def _mistral(self, path: str, request: Request) -> Reply | None:
        if path == "/batch/jobs" and request.method == "POST":
            asked: Any = request.json
            files = asked.get("input_files") if isinstance(asked, dict) else None
            if not files or files[0] not in self._files or not asked.get("model"):
                raise Complaint(422, "input_files, model and endpoint are required")
            lines = [orjson.loads(raw) for raw in self._files[files[0]].splitlines()]
            told = [
                _Line(one["custom_id"], asked["endpoint"], {**one["body"], "model": asked["model"]}) for one in lines
            ]
            return _json(self._mistral_job(self._submit("job-", told, asked["model"])))
        found = re.fullmatch(r"/batch/jobs/([^/]+)(/cancel)?", path)
        if found is None:
            return None
        job = self._job(found[1])
        if found[2]:
            job.cancelled = True
        return _json(self._mistral_job(job, job.look()))

    def _mistral_job(self, job: _Job, ended: bool = False) -> Json:
        body: Json = {
            "id": job.id, "object": "batch", "model": job.model, "endpoint": "/v1/chat/completions", "errors": [],
            "status": "RUNNING", "total_requests": len(job.lines), "completed_requests": 0, "output_file": None,
            "error_file": None,
        }  # fmt: skip
        if not ended:
            return body
        files, good, bad = self._put(job)
        counts = {"completed_requests": good + bad, "succeeded_requests": good, "failed_requests": bad}
        return body | files | counts | {"status": "CANCELLED" if job.cancelled else "SUCCESS"}

    # -- Anthropic

    def _anthropic(self, request: Request) -> Reply | None:
        found = re.fullmatch(r"/v1/messages/batches(?:/([^/]+))?(/results|/cancel)?", request.path)
        if found is None:
            return None
        if found[1] is None:
            return _json(self._message_batch(self._anthropic_submit(request.json)))
        job = self._job(found[1])
        if found[2] == "/results":
            lines = []
            for line, status, body in self._results(job):
                result = {"type": "succeeded", "message": body} if status == 200 else {"type": "errored", "error": body}
                lines.append({"custom_id": line.id, "result": result})
            answered = {line["custom_id"] for line in lines}
            gone = "canceled" if job.cancelled else "expired"
            lines += [{"custom_id": line.id, "result": {"type": gone}} for line in job.lines if line.id not in answered]
            content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
            return Reply(200, [("content-type", "application/x-jsonl")], [Part(content)])
        if found[2] == "/cancel":
            job.cancelled = True
        return _json(self._message_batch(job, job.look()))

    def _anthropic_submit(self, asked: object) -> _Job:
        requests = asked.get("requests") if isinstance(asked, dict) else None
        if not isinstance(requests, list):
            raise Complaint(400, "requests: Field required")
        ids = [one.get("custom_id") for one in requests]
        if len(set(ids)) < len(ids) or not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", str(id)) for id in ids):
            raise Complaint(400, "custom_id: must be unique and match ^[a-zA-Z0-9_-]{1,64}$")
        return self._submit("msgbatch_", [_Line(one["custom_id"], "/v1/messages", one["params"]) for one in requests])

    @staticmethod
    def _message_batch(job: _Job, ended: bool = False) -> Json:
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if ended else "processing"] = len(job.lines)
        return {
            "id": job.id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts, "results_url": f"https://elsewhere.invalid/{job.id}" if ended else None,
        }  # fmt: skip

    # -- Gemini

    def _gemini(self, request: Request) -> Reply | None:
        found = re.fullmatch(r"/v1beta/models/([^/:]+):batchGenerateContent", request.path)
        if found is not None and request.method == "POST":
            body: Any = request.json
            try:
                asked = body["batch"]["inputConfig"]["requests"]["requests"]
            except (KeyError, TypeError):
                raise Complaint(400, "batch.inputConfig.requests is required") from None
            path = f"/v1beta/models/{found[1]}:generateContent"
            lines = [_Line(one["metadata"]["key"], path, one["request"]) for one in asked]
            return _json(self._operation(self._submit("batches/", lines)))
        named = re.fullmatch(r"/v1beta/(batches/\d+)(:cancel)?", request.path)
        if named is None:
            return None
        job = self._job(named[1])
        if named[2]:
            job.cancelled = True
            return _json({})
        return _json(self._operation(job, job.look()))

    def _operation(self, job: _Job, ended: bool = False) -> Json:
        state = (
            "BATCH_STATE_RUNNING"
            if not ended
            else "BATCH_STATE_CANCELLED"
            if job.cancelled
            else "BATCH_STATE_SUCCEEDED"
        )
        body: Json = {"name": job.id, "metadata": {"state": state, "batchStats": {"requestCount": len(job.lines)}}}
        if ended:
            inlined = []
            for line, status, answer in self._results(job):
                told: Json = {"metadata": {"key": line.id}}
                told |= {"response": answer} if status == 200 else {"error": answer["error"]}
                inlined.append(told)
            body |= {"done": True, "response": {"inlinedResponses": {"inlinedResponses": inlined}}}
        return body


def _form_file(request: Request) -> bytes:
    mark = _BOUNDARY.search(request.headers.get("content-type", ""))
    if mark is None:
        raise Complaint(400, "Expected multipart/form-data")
    for part in request.body.split(b"--" + mark[1].encode()):
        head, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return content.removesuffix(b"\r\n")
    raise Complaint(400, "Missing required parameter: 'file'", param="file")


def _json(body: Json) -> Reply:
    return Reply(200, [("content-type", "application/json")], [Part(orjson.dumps(body))])
