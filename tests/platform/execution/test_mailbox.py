from __future__ import annotations

import asyncio

import pytest

from advlora_platform.execution import mailbox
from advlora_platform.execution.mailbox import Mailbox
from advlora_platform.execution.places import Place
from advlora_platform.study.failures import LOST_WORKER, Failure
from advlora_platform.study.messages import Failed, Reported

pytestmark = pytest.mark.unit


def epoch(number):
    return Reported(number, {"train/loss": 1.0})


def scenario(play):
    """Runs a coroutine with a mailbox; nothing in it may wait for ever."""

    async def bounded():
        return await asyncio.wait_for(play(Mailbox()), timeout=5)

    return asyncio.run(bounded())


def test_a_job_goes_in_and_its_reports_come_out_in_order():
    async def play(box):
        number = await box.submit({"arm": "a"})
        assert await box.next_job() == (number, {"arm": "a"})
        assert await box.report(number, epoch(1))
        assert await box.report(number, epoch(2))
        return [await box.next_message(), await box.next_message()]

    assert scenario(play) == [(1, epoch(1)), (1, epoch(2))]


def test_a_worker_waits_for_a_job():
    async def play(box):
        waiting = asyncio.create_task(box.next_job())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await box.submit({"arm": "a"})
        return await waiting

    assert scenario(play) == (1, {"arm": "a"})


def test_reports_of_a_cancelled_job_are_dropped_and_its_workers_told():
    async def play(box):
        first = await box.submit({"arm": "a"})
        await box.cancel(first)
        assert not await box.report(first, epoch(1))
        second = await box.submit({"arm": "b"})
        assert not await box.report(first, epoch(2))
        assert await box.report(second, epoch(1))
        return await box.next_message()

    assert scenario(play) == (2, epoch(1))


def test_a_new_job_takes_the_place_of_an_unfinished_one():
    async def play(box):
        first = await box.submit({"arm": "a"})
        await box.submit({"arm": "b"})
        assert not await box.report(first, epoch(1))
        return await box.next_job()

    assert scenario(play) == (2, {"arm": "b"})


def test_a_new_group_gets_the_unfinished_job_again_but_not_a_settled_one():
    async def play(box):
        number = await box.submit({"arm": "a"})
        await box.group_started()
        assert await box.next_job() == (number, {"arm": "a"})
        await box.group_started()
        assert await box.next_job() == (number, {"arm": "a"})
        await box.settle(number)
        waiting = asyncio.create_task(box.next_job())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await box.close()
        return await waiting

    assert scenario(play) is None


def test_a_job_that_kills_its_workers_again_and_again_is_given_up():
    async def play(box):
        first = await box.submit({"arm": "a"})
        for _ in range(LOST_WORKER.retried + 1):
            await box.group_started()
            assert await box.next_job() == (first, {"arm": "a"})
        await box.group_started()
        number, message = await box.next_message()
        assert (number, message.failure.kind) == (1, "lost_worker")
        assert "tried 3 times" in message.failure.message
        await box.submit({"arm": "b"})
        await box.group_started()
        return await box.next_job()

    assert scenario(play) == (2, {"arm": "b"})


def test_a_job_that_gets_on_between_its_losses_is_not_given_up():
    async def play(box):
        number = await box.submit({"arm": "a"})
        for each in range(1, 3 * LOST_WORKER.retried):
            await box.group_started()
            assert await box.next_job() == (number, {"arm": "a"})
            await box.report(number, epoch(each))
            assert await box.next_message() == (number, epoch(each))
        for _ in range(LOST_WORKER.retried):  # from here on it does not
            await box.group_started()
            await box.next_job()
            await box.report(number, epoch(1))
            await box.next_message()
        await box.group_started()
        return await box.next_message()

    _, message = scenario(play)
    assert message.failure.message.endswith(f"tried {LOST_WORKER.retried + 1} times")


def test_an_error_is_tried_once_more_before_it_counts():
    async def play(box):
        number = await box.submit({"arm": "a"})
        await box.next_job()
        await box.fail(number, Failure("error", "KeyError: a"))
        again = await box.next_job()
        await box.fail(number, Failure("error", "KeyError: a"))
        return again, await box.next_message()

    again, said = scenario(play)
    assert again == (1, {"arm": "a"})
    assert said == (1, Failed(Failure("error", "KeyError: a; tried 2 times")))


def test_memory_that_an_earlier_trial_may_have_taken_is_no_reason_to_give_a_job_up():
    async def play(box):
        number, short = await box.submit({"arm": "a"}), Failure("out_of_memory", "tried to allocate 2 GiB")
        await box.next_job()
        for _ in range(2):  # workers of one group
            await box.fail(number, short, warm=True)
        again = await box.next_job()
        await box.fail(number, short, warm=False)
        return again, await box.next_message()

    again, said = scenario(play)
    assert again == (1, {"arm": "a"})
    assert said == (1, Failed(Failure("out_of_memory", "tried to allocate 2 GiB")))


def test_a_failure_is_told_once_however_many_workers_meet_it():
    async def play(box):
        number = await box.submit({"arm": "a"})
        await box.next_job()
        for _ in range(4):
            await box.fail(number, Failure("diverged", "loss nan"))
        await box.submit({"arm": "b"})
        await box.report(2, epoch(1))
        return [await box.next_message(), await box.next_message()]

    first, second = scenario(play)
    assert first == (1, Failed(Failure("diverged", "loss nan")))
    assert second == (2, epoch(1))


def test_groups_that_die_before_they_take_a_job_do_not_count_against_it():
    async def play(box):
        number = await box.submit({"arm": "a"})
        for _ in range(9):
            await box.group_started()
        assert await box.next_job() == (number, {"arm": "a"})
        assert await box.report(number, epoch(1))
        return await box.next_message()

    assert scenario(play) == (1, epoch(1))


def test_one_try_counts_once_however_many_workers_lose_it():
    async def play(box):
        number = await box.submit({"arm": "a"})
        for _ in range(LOST_WORKER.retried):
            await box.next_job()
            for _ in range(4):
                await box.fail(number, Failure(LOST_WORKER.name, "killed"))
        return await box.next_job()

    assert scenario(play) == (1, {"arm": "a"})


def test_silence_is_counted_from_the_last_sign_of_the_workers_and_only_while_there_is_a_job():
    async def play(box):
        before = [await box.silence()]
        await box.group_started()
        await asyncio.sleep(0.05)
        before.append(await box.silence())  # no job yet
        number = await box.submit({"arm": "a"})
        await asyncio.sleep(0.05)
        waiting = await box.silence()  # the group is there, but nobody takes the job
        await box.next_job()
        taken = await box.silence()
        await asyncio.sleep(0.05)
        await box.report(number, epoch(1))
        reported = await box.silence()
        await asyncio.sleep(0.05)
        silent = await box.silence()
        await box.settle(number)
        return before, waiting, taken, reported, silent, await box.silence()

    before, waiting, taken, reported, silent, settled = scenario(play)
    assert before == [0.0, 0.0]
    assert min(waiting, silent) >= 0.05
    assert max(taken, reported) < 0.05
    assert settled == 0.0


def test_workers_that_were_killed_are_not_silent_and_their_job_waits_for_the_next_group():
    async def play(box):
        await box.group_started()
        await box.enrol(Place("node", 1, 0.0))
        number = await box.submit({"arm": "a"})
        places = await box.places()
        await box.give_up(number, Failure("error", "no report"))  # it was not taken, so this was no try
        await asyncio.sleep(0.05)
        silent = await box.silence()
        await box.group_started()
        return places, silent, await box.places(), await box.next_job()

    assert scenario(play) == ({Place("node", 1, 0.0)}, 0.0, set(), (1, {"arm": "a"}))


def test_a_worker_hears_what_is_decided_about_its_epoch_before_it_begins_another():
    async def play(box):
        number = await box.submit({"arm": "a"})
        await box.next_job()
        await box.report(number, epoch(1))
        await box.next_message()
        waiting = asyncio.create_task(box.verdict(number))
        await asyncio.sleep(0.02)
        undecided = not waiting.done()
        more = asyncio.create_task(box.next_message())  # the trial goes on
        wanted = await waiting
        await box.report(number, epoch(2))
        await more
        waiting = asyncio.create_task(box.verdict(number))
        await box.cancel(number)
        return undecided, wanted, await waiting

    assert scenario(play) == (True, True, False)


@pytest.mark.parametrize("end", ["close", "submit"])
def test_a_worker_that_waits_for_a_decision_is_freed_when_its_job_is_over(end):
    async def play(box):
        number = await box.submit({"arm": "a"})
        await box.report(number, epoch(1))
        await box.next_message()
        waiting = asyncio.create_task(box.verdict(number))
        await asyncio.sleep(0.01)
        await (box.close() if end == "close" else box.submit({"arm": "b"}))
        return await waiting

    assert scenario(play) is False


def test_closing_frees_the_workers():
    async def play(box):
        number = await box.submit({"arm": "a"})
        await box.close()
        assert not await box.report(number, epoch(1))
        return await box.next_job()

    assert scenario(play) is None


def test_a_group_without_a_job_goes_home_all_of_it_and_the_next_job_calls_another(monkeypatch):
    monkeypatch.setattr(mailbox, "IDLE_SECONDS", 0.05)

    async def play(box):
        await box.group_started()
        number = await box.submit({"arm": "a"})
        await box.next_job()
        await box.settle(number)
        early = asyncio.create_task(box.next_job())
        await asyncio.sleep(0.03)
        late = asyncio.create_task(box.next_job())
        assert await early is None
        second = await box.submit({"arm": "b"})
        assert await late is None  # whatever has come meanwhile: its group is going home
        assert await box.silence() == 0.0
        assert await box.called()
        await box.group_started()
        return await box.next_job() == (second, {"arm": "b"})

    assert scenario(play)


def test_a_group_is_not_called_while_there_is_nothing_to_do():
    async def play(box):
        waiting = asyncio.create_task(box.called())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await box.close()
        return await waiting

    assert scenario(play) is False


def test_only_a_group_that_took_no_job_has_not_served_however_its_jobs_ended():
    async def play(box):
        await box.group_started()
        assert not await box.served()
        number = await box.submit({"arm": "a"})
        await box.next_job()
        await box.fail(number, Failure("out_of_memory", "CUDA out of memory"))
        assert await box.served()
        return await box.served()

    assert scenario(play) is False


def test_failures_of_earlier_jobs_do_not_count_for_the_next_one():
    async def play(box):
        for _ in range(2 * (LOST_WORKER.retried + 1)):
            number = await box.submit({"arm": "a"})
            await box.next_job()
            await box.fail(number, Failure("out_of_memory", "CUDA out of memory"))
            assert isinstance((await box.next_message())[1], Failed)
        number = await box.submit({"arm": "innocent"})
        for _ in range(LOST_WORKER.retried):
            await box.group_started()
            assert await box.next_job() == (number, {"arm": "innocent"})
        return await box.report(number, epoch(1))

    assert scenario(play)
