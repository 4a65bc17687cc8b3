"""A process that is told what to measure, one line of JSON at a time; standard library alone.

Two of them, one with TensorFlow and one with PyTorch, take turns: what disturbs the machine disturbs both.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable


def measured(function: Callable[[], object]) -> dict[str, float]:
    """Wall and processor seconds of one call, which must end when its work is done."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def peak_mb() -> float:
    """Peak resident memory of this process, MB."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def serve(make: Callable[..., tuple[Callable[[], object], dict]]) -> None:
    """Answers requests on standard input until it ends.

    {"make": NAME, "job": {...}} calls `make(**job)`, which gives a function and what there is to say of it,
    and calls the function twice; {"run": NAME, "count": N} measures it N times; {"peak": true} asks for
    memory.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever libraries print must not be an answer
    functions = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "make" in request:
                started = time.perf_counter()
                function, said = make(**request["job"])
                functions[request["make"]] = function
                function()
                function()  # so that nothing is left to be traced or compiled
                answer = said | {"seconds_to_make": time.perf_counter() - started}
            elif "run" in request:
                answer = [measured(functions[request["run"]]) for _ in range(request["count"])]
            else:
                answer = peak_mb()
        except Exception as error:  # told to the other side, which decides
            answer = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """The other end: starts such a process and asks it.

    Args:
        python: the interpreter.
        script: what it runs; must call `serve`.
        threads: it may use.
    """

    def __init__(self, python: str, script: str, threads: int):
        counts = {"OMP_NUM_THREADS": str(threads), "AGAD_TF_BENCH_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | counts | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def ask(self, **request):
        """The answer to a request.

        Raises:
            RuntimeError: the other side could not, or has ended.
        """
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with status {self.process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
