"""What a database has acknowledged before a save is there after its restore, however much is written meanwhile.

VIBE_TEST_SAVES and VIBE_TEST_RESTORES say how often (20 and 5; the full trial is 200 and 50), VIBE_TEST_SEED repeats one."""

import copy
import json
import os
import random
import re
import shutil
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from vibe_cli import Failed, get, write_app

SAVES = int(os.environ.get("VIBE_TEST_SAVES", 20))
RESTORES = int(os.environ.get("VIBE_TEST_RESTORES", 5))
SEED = int(os.environ.get("VIBE_TEST_SEED", random.randrange(1 << 32)))
WRITERS = 3
KEPT = 12  # snapshots; older ones give way
NAME = "commits"
PATIENCE = 180  # for what is found out about the last snapshots


class Ledger:
    """What was acknowledged, kept outside of the machine. Thread-safe."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sessions = {}  # of the writers: to the highest number that was acknowledged
        self.marks = []
        self.transactions = 0  # of pgbench

    def acknowledge(self, session, number):
        with self.lock:
            self.sessions[session] = number

    def add_transactions(self, count):
        with self.lock:
            self.transactions += count

    def now(self):
        """A copy: (sessions, marks, transactions)."""
        with self.lock:
            return copy.deepcopy((self.sessions, self.marks, self.transactions))

    def go_back(self, to):
        with self.lock:
            self.sessions, self.marks, self.transactions = copy.deepcopy(to)


class Writers:
    """Threads that write until they are ended, or until a restore takes the services away; then they wait for go_on()."""

    def __init__(self, vibe, url, ledger):
        self.vibe, self.url, self.ledger = vibe, url, ledger
        self.condition = threading.Condition()
        self.going, self.ended, self.busy, self.number, self.acknowledged = False, False, 0, 0, 0
        self.wrong = []  # what no restore explains
        self.threads = [threading.Thread(target=self.run, args=(work,)) for work in [self.write] * WRITERS + [self.pgbench]]
        for thread in self.threads:
            thread.start()

    def run(self, work):
        while True:
            with self.condition:
                self.condition.wait_for(lambda: self.going or self.ended)
                if self.ended:
                    return
                self.busy += 1
                self.number += 1
                session = f"session-{self.number}"
            try:
                work(session)
            except (OSError, Failed) as error:
                with self.condition:
                    if self.going:
                        self.wrong.append(f"{session}: {error}")
                        self.going = False
            finally:
                with self.condition:
                    self.busy -= 1
                    self.condition.notify_all()

    def write(self, session):
        with urllib.request.urlopen(f"{self.url}/write/{session}", timeout=60) as answer:
            for line in answer:
                if line.endswith(b"\n"):  # else the connection broke within it
                    self.ledger.acknowledge(session, int(line))
                    self.acknowledged += 1  # for the report
                if self.ended:
                    return
        raise OSError("the stream of commits ended")

    def pgbench(self, _session):
        while not self.ended:
            out = self.vibe("exec", NAME, "-s", "db", "--", "pgbench", "-n", "-c", "2", "-t", "50", "-U", "commits", "commits")
            self.ledger.add_transactions(int(re.search(r"actually processed: (\d+)/", out)[1]))

    def go_on(self):
        with self.condition:
            self.going = True
            self.condition.notify_all()

    def expect_the_end(self):
        """From now on a broken connection is what a restore does, and nobody begins anew."""
        with self.condition:
            assert self.going, self.wrong
            self.going = False

    def wait_until_quiet(self):
        with self.condition:
            assert self.condition.wait_for(lambda: self.busy == 0, timeout=90), "the writers do not notice a restore"
            assert not self.wrong, self.wrong

    def end(self):
        with self.condition:
            self.ended = True
            self.condition.notify_all()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def app(fresh_vibe, tmp_path):
    folder = write_app(
        tmp_path / "app",
        [{"name": "web", "image": "vibe-examples/python:3.11", "command": ["python3", "commit_writer.py"],
          "ports": [{"container": 8080}], "dependsOn": ["db"], "stateVolumes": ["file:/data"]},
         {"name": "db", "image": "vibe-examples/postgres:15", "stateVolumes": ["cluster:/var/lib/postgresql/data"],
          "env": {"POSTGRES_USER": "commits", "POSTGRES_DB": "commits", "POSTGRES_PASSWORD": "commits"},
          "healthcheck": {"test": ["CMD", "pg_isready", "--quiet", "--username=commits", "--host=/run/postgresql"],
                          "interval": "5s", "timeout": "3s", "retries": 3, "startPeriod": "2m"}}],
        images=("python", "postgres"),
        state={"retention": {"maxSnapshots": KEPT},
               "volumes": [{"name": "file", "consistency": "sqlite"}, {"name": "cluster", "consistency": "postgres"}]})
    shutil.copy(Path(__file__).parent / "commit_writer.py", folder)
    return fresh_vibe.open(folder, name=NAME)


def in_database(vibe, *words):
    return vibe("exec", NAME, "-s", "db", "--", *words)


def sql(vibe, statement):
    return in_database(vibe, "psql", "-X", "-A", "-t", "-U", "commits", "-d", "commits", "-c", statement).strip()


def check_databases(vibe, url, expected):
    """What was acknowledged is there, of the one instant, and both databases find nothing wrong with themselves."""
    sessions, marks, transactions = expected
    found = json.loads(get(f"{url}/check", timeout=60))
    for kind in ("sqlite", "postgres"):
        rows = found[kind]
        for session, number in sessions.items():
            count, highest = rows.get(session, (0, 0))
            assert highest >= number, f"{kind} lost {number - highest} acknowledged commits of {session}"
        for session, (count, highest) in rows.items():
            assert count == highest, f"{kind} lost commits in the middle of {session}: {count} of {highest}"
        assert found[f"{kind}Marks"] == marks, f"{kind} is not of the instant of the save"
    for session in found["postgres"].keys() | found["sqlite"].keys():
        first, second = (found[kind].get(session, (0, 0))[0] for kind in ("postgres", "sqlite"))
        assert first - second in (0, 1), f"the volumes are of two instants: {session} has {first} and {second} commits"
    assert found["integrity"] == "ok"

    # Each transaction of pgbench changes three balances and notes it in the history, or does nothing.
    count, *sums = map(int, sql(vibe, """
        SELECT (SELECT count(*) FROM pgbench_history), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
               (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
               (SELECT sum(bbalance) FROM pgbench_branches)""").split("|"))
    assert count >= transactions, f"{transactions - count} transactions of pgbench are lost"
    assert len(set(sums)) == 1, f"a transaction of pgbench is there in part: {sums}"
    in_database(vibe, "pg_amcheck", "-U", "commits", "--heapallindexed", "--parent-check", "commits")
    in_database(vibe, "pg_dump", "-U", "commits", "-f", "/dev/null", "commits")  # reads every page, with its checksum
    assert sql(vibe, "SELECT string_agg(current_setting(name), ' ') "
                     "FROM unnest(ARRAY['fsync', 'full_page_writes', 'data_checksums']) name") == "on on on"
    return count


def listed(vibe):
    return {snapshot["id"]: snapshot for snapshot in vibe.json("snapshots", NAME)["snapshots"]}


def wait_until_complete(vibe):
    deadline = time.monotonic() + PATIENCE
    while not all(snapshot["complete"] for snapshot in listed(vibe).values()):
        assert time.monotonic() < deadline, f"not every snapshot is complete after {PATIENCE} s"
        time.sleep(0.5)
    return listed(vibe).values()


def test_no_acknowledged_commit_is_missing_after_a_restore(fresh_vibe, app):
    vibe, url, chance, ledger = fresh_vibe, app["url"], random.Random(SEED), Ledger()
    in_database(vibe, "pgbench", "-q", "-i", "-s", "1", "-U", "commits", "commits")
    sql(vibe, "CREATE EXTENSION amcheck")
    expected, pauses, took = {}, [], {"save": [], "restore": []}
    restores_after = {round((number + 1) * SAVES / RESTORES) for number in range(RESTORES)}
    assert len(restores_after) == RESTORES, "more restores than saves"
    writers = Writers(vibe, url, ledger)
    try:
        writers.go_on()
        for number in range(1, SAVES + 1):
            time.sleep(chance.uniform(0, 0.4))
            before = ledger.now()
            started = time.monotonic()
            saved = vibe.json("save", NAME)
            took["save"].append(time.monotonic() - started)
            pauses.append(saved["pauseMicros"] / 1000)
            expected[saved["id"]] = before
            assert get(f"{url}/mark/{number}", timeout=60) is not None, "the app does not answer after a save"
            ledger.marks.append(number)  # only this thread writes it
            if number not in restores_after:
                continue

            # The safety snapshot that a restore takes is under load, too, and one of those that may be restored later.
            there = listed(vibe)
            assert not [snapshot for snapshot in there.values() if snapshot["problem"]], there
            chosen = chance.choice([snapshot for snapshot in there if snapshot in expected])
            writers.expect_the_end()
            before = ledger.now()
            started = time.monotonic()
            restored = vibe.json("restore", NAME, chosen)
            took["restore"].append(time.monotonic() - started)
            expected[restored["safetySnapshot"]] = before
            writers.wait_until_quiet()
            ledger.go_back(expected[chosen])
            ledger.transactions = check_databases(vibe, url, expected[chosen])
            writers.go_on()
    except BaseException:
        print(f"VIBE_TEST_SEED={SEED}; what the writers saw: {writers.wrong}")
        raise
    finally:
        writers.end()
    for snapshot in wait_until_complete(vibe):
        assert not snapshot["problem"], snapshot
        for volume in snapshot["volumes"]:
            assert not volume["problem"] and not volume["rawOnly"], volume
            assert volume["integrityCheck" if volume["name"] == "file" else "dumpFormat"] in ("ok", "pg_dump_custom"), volume
    pauses.sort()
    print(f"\n{SAVES} saves, {RESTORES} restores, {writers.acknowledged} acknowledged commits in both databases, "
          f"seed {SEED}; pause median {pauses[len(pauses) // 2]:.1f} ms, p99 {pauses[len(pauses) * 99 // 100]:.1f}, "
          f"longest {pauses[-1]:.1f}; " + "; ".join(f"{word} median {sorted(times)[len(times) // 2]:.2f} s, longest "
                                                    f"{max(times):.2f}" for word, times in took.items()))
