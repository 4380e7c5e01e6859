"""The command: what it prints, writes and returns, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fleet.chaos.audit import Account, table
from fleet.cli import cli

SIMULATE = [sys.executable, "-m", "fleet.cli", "simulate"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kills", "3"], "--kills is for --chaos"),
        (["--broker-program", "no-such-broker"], "is not here"),
        (["--agents", "0"], "0 is not in the range"),
        (["--hours", "nan"], "not a number"),
    ],
)
def test_what_it_refuses(tmp_path, arguments, said):
    done = CliRunner().invoke(cli, ["simulate", "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code and said in f"{done.output}{done.exception}"
    assert not (tmp_path / "out").exists(), "nothing was begun"


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    done = CliRunner().invoke(cli, ["simulate", "--out", str(tmp_path)])
    assert done.exit_code and "must be a new or an empty folder" in f"{done.output}{done.exception}"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_table_adds_up():
    accounts = [Account(device="a", stored=3, longest_open_s=0.5), Account(device="b", stored=4, longest_open_s=0.2)]
    *_, total = table(accounts).splitlines()
    assert " 7 " in total and " 0.5 " in total


@pytest.mark.slow
@pytest.mark.broker
def test_a_rehearsal_from_the_command_line(tmp_path, mosquitto_program):
    folder = tmp_path / "rehearsal"
    command = [*SIMULATE, "--agents", "2", "--chaos", "--kills", "4", "--seed", "3", "--out", str(folder), "--json"]
    done = subprocess.run(
        [*command, "--broker-program", mosquitto_program], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    ledger = json.loads(done.stdout)
    assert ledger == json.loads((folder / "ledger.json").read_text())
    assert ledger["sound"] and sum(ledger["kills"].values()) >= 4 and len(ledger["accounts"]) == 2
    actions = [json.loads(line) for line in (folder / "actions.jsonl").read_text().splitlines()]
    assert [one["at_s"] for one in actions] == sorted(one["at_s"] for one in actions)
    assert "sound: " in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_no_source_can_name_is_refused(tmp_path):
    done = CliRunner().invoke(cli, ["simulate", "--out", str(tmp_path / "a,b")])
    assert done.exit_code and "must be without ','" in f"{done.output}{done.exception}"


@pytest.mark.slow
@pytest.mark.broker
def test_ctrl_c_ends_all_in_order(tmp_path, mosquitto_program, eventually):
    folder = tmp_path / "calm"
    command = [*SIMULATE, "--agents", "1", "--out", str(folder), "--broker-program", mosquitto_program]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        journal = folder / "agent-00" / "agent.log"
        eventually(lambda: journal.exists() and "broker_connected" in journal.read_text(), 60)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0 and "ending in order" in said and "sound" in said, said


@pytest.mark.slow
@pytest.mark.broker
def test_without_chaos_agents_run_and_end_in_order(tmp_path, mosquitto_program):
    command = [*SIMULATE, "--agents", "2", "--hours", "0.002", "--out", str(tmp_path / "calm")]
    done = subprocess.run(
        [*command, "--broker-program", mosquitto_program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "agent-01" in done.stdout and "0 kills" in done.stderr
