"""Shards: parts of a batch for several machines, and the page of all of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amsnet_cli.batch.plan import plan_jobs
from amsnet_cli.batch.shard import Shard, parse_shard
from amsnet_cli.errors import OutputError, UsageError
from tests.test_batch import card, touch  # noqa: F401

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(NAMES, unique=True), NAMES, st.integers(1, 40))
def test_each_photo_is_in_one_shard_whatever_else_is_there(names, added, count):
    shards = [Shard(i, count) for i in range(count)]
    alone = {name: [s.index for s in shards if s.holds(name)] for name in names}
    assert all(len(found) == 1 for found in alone.values())
    together = {name: [s.index for s in shards if s.holds(name)] for name in [added, *names]}
    assert {name: together[name] for name in names} == alone


@pytest.mark.parametrize("count", [2, 16, 100])
def test_shards_are_balanced_as_by_chance(count):
    per_shard = 400
    sizes = Counter(
        next(i for i in range(count) if Shard(i, count).holds(f"DCIM/{n // 500}/IMG_{n:06}.jpg"))
        for n in range(per_shard * count // 10)
    )
    mean = per_shard / 10
    deviation = (sum((sizes[i] - mean) ** 2 for i in range(count)) / count) ** 0.5
    assert deviation < 1.6 * mean**0.5, "binomial"


class TestParse:
    @pytest.mark.parametrize(
        ("environment", "shard"),
        [
            ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "15",
              "SLURM_ARRAY_TASK_COUNT": "16"}, "4/16"),
            ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "10",
              "SLURM_ARRAY_TASK_STEP": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, "3/4"),
            ({"SGE_TASK_ID": "2", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "5"}, "2/5"),
            ({"SGE_TASK_ID": "undefined", "RANK": "0", "WORLD_SIZE": "2"}, "1/2"),
            ({"RANK": "1", "WORLD_SIZE": "2"}, "2/2"),
        ],
    )  # fmt: skip
    def test_auto_takes_what_the_cluster_says(self, environment, shard):
        assert str(parse_shard("auto", environment)) == shard

    @pytest.mark.parametrize(
        ("environment", "says"),
        [
            ({}, "neither SLURM_ARRAY_TASK_ID, SGE_TASK_ID nor RANK is set"),
            ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN is not set"),
            ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "9",
              "SLURM_ARRAY_TASK_COUNT": "3"}, "an array with gaps"),
            ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
            ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE 2"),
            ({"RANK": "0", "WORLD_SIZE": "2", "SGE_TASK_ID": "1", "SGE_TASK_FIRST": "1",
              "SGE_TASK_LAST": "5"}, "SGE_TASK_ID says 1/5 and RANK says 1/2"),
        ],
    )  # fmt: skip
    def test_auto_never_guesses(self, environment, says):
        with pytest.raises(UsageError, match=f"(?=.*{says}).*--shard 3/16"):
            parse_shard("auto", environment)

    @pytest.mark.parametrize(
        "text", ["0/4", "17/16", "0/0", "1/0", "3", "a/b", "-1/4", "1/4/2", ""]
    )
    def test_what_is_no_shard_is_one_line(self, amsnet, text):
        result = amsnet("denoise", "x", "-o", "out", "--shard", text)
        assert result.exit_code == 2 and result.stderr.startswith("error: --shard")
        assert len(result.stderr.splitlines()) == 1


class TestPlan:
    def plan(self, root: Path, count: int, **options) -> list[list[str]]:
        return [
            [j.source.name for j in plan_jobs(
                [root / "in"], root / "out", recursive=True, shard=Shard(i, count), **options
            ).jobs] for i in range(count)
        ]  # fmt: skip

    def test_results_of_other_shards_disturb_none(self, tmp_path):
        """Shards start at different times, when others have written already."""
        names = [f"in/{i % 3}/{i}.jpg" for i in range(30)]
        touch(tmp_path, *names)
        before = self.plan(tmp_path, 4)
        assert sorted(name for shard in before for name in shard) == sorted(
            Path(name).name for name in names
        )
        for name in before[0]:
            touch(tmp_path, f"out/{int(Path(name).stem) % 3}/{name}")
        assert [self.plan(tmp_path, 4, skip_existing=True)[i] for i in range(4)] == before
        for index in range(1, 4):
            plan_jobs([tmp_path / "in"], tmp_path / "out", recursive=True, shard=Shard(index, 4))
        with pytest.raises(OutputError, match="already exists"):
            plan_jobs([tmp_path / "in"], tmp_path / "out", recursive=True, shard=Shard(0, 4))

    def test_a_shard_does_not_depend_on_where_the_photos_are_mounted(self, tmp_path):
        for place in ("here", "there/deeper"):
            touch(tmp_path / place, *[f"in/{i}.jpg" for i in range(20)])
        assert self.plan(tmp_path / "here", 3) == self.plan(tmp_path / "there/deeper", 3)

    def test_names_are_compared_over_all_shards(self, tmp_path):
        touch(tmp_path, "in/a.jpg", "in/A.JPG", *[f"in/{i}.jpg" for i in range(9)])
        for index in range(8):
            with pytest.raises(UsageError, match="would both become"):
                plan_jobs([tmp_path / "in"], tmp_path / "out", shard=Shard(index, 8))

    def test_each_file_is_passed_over_once(self, tmp_path):
        touch(tmp_path, "in/a.jpg", *[f"in/{i}.txt" for i in range(9)])
        plans = [
            plan_jobs([tmp_path / "in"], tmp_path / "out", shard=Shard(i, 3)) for i in range(3)
        ]
        assert sorted(p.path.name for plan in plans for p in plan.passed_over) == [
            f"{i}.txt" for i in range(9)
        ]


def test_shards_together_are_the_whole_and_become_one_page(amsnet, card, tiny_model):  # noqa: F811
    (card / "bad.png").write_bytes(b"junk")
    call = ["denoise", "-r", card, "-w", tiny_model, "--json"]
    whole = amsnet(*call, "-o", card.parent / "whole")
    lines = ""
    for index in (1, 2, 3):
        shard = amsnet(*call, "-o", card.parent / "out", "--shard", f"{index}/3")
        assert shard.exit_code in (0, 1, 3)
        lines += shard.stdout

    def facts(stdout: str) -> list[tuple[str, ...]]:
        rows = map(json.loads, stdout.splitlines())
        return sorted((r["input"], r["status"], r["weights"] or "") for r in rows)

    assert facts(lines) == facts(whole.stdout) and len(facts(lines)) == 4
    for path in (card.parent / "whole").rglob("*.*"):
        twin = card.parent / "out" / path.relative_to(card.parent / "whole")
        assert twin.read_bytes() == path.read_bytes()
    (card.parent / "1.jsonl").write_text(lines)
    page = card.parent / "page.html"
    made = amsnet("report", card.parent / "1.jsonl", "-o", page)
    assert made.exit_code == 0 and made.stdout == f"{page}\n"
    text = page.read_text()
    assert text.count('class="slider"') == 3 and "not a picture" in text


class TestReport:
    def test_the_last_word_on_a_photo_counts(self, amsnet, noisy_png, tmp_path):
        base = {"input": str(noisy_png), "output": str(noisy_png), "weights": "w"}
        failed = {**base, "status": "failed", "error": "too large"}
        done = {**base, "status": "done", "width": 192, "height": 160, "seconds": 1.0,
                "noise_before": 9.0, "noise_after": 5.0}  # fmt: skip
        skipped = {**base, "status": "skipped"}
        log = tmp_path / "log.jsonl"
        log.write_text("\n".join(map(json.dumps, [failed, done, skipped])))
        amsnet("report", log, "-o", tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text()
        assert (
            '<td class="failed"' not in text
            and text.count('class="slider"') == 1
            and ">9.0<" in text
        )

    @pytest.mark.parametrize(
        ("content", "says"),
        [(b"x\n", "line 1"), (b'{"input": 3}\n', "line 1"), (b"[]\n", "line 1"), (b"", "no photo"),
         (b'{"input": "a", "output": "b", "status": "done"}\n\xff\n', "line 2")],
    )  # fmt: skip
    def test_what_is_no_result_is_one_line(self, amsnet, tmp_path, content, says):
        (tmp_path / "log.jsonl").write_bytes(content)
        result = amsnet("report", tmp_path / "log.jsonl", "-o", tmp_path / "page.html")
        assert result.exit_code == 1 and says in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "page.html").exists()

    def test_a_photo_that_is_gone_is_only_listed(self, amsnet, tmp_path):
        line = {"input": "gone.png", "output": "gone2.png", "status": "done", "width": 3,
                "height": 2, "seconds": 1.5, "weights": "w"}  # fmt: skip
        (tmp_path / "log.jsonl").write_text(json.dumps(line))
        result = amsnet("report", tmp_path / "log.jsonl", "-o", tmp_path / "page.html")
        assert result.exit_code == 0 and "gone.png: no such file" in result.stderr
        text = (tmp_path / "page.html").read_text()
        assert "3×2" in text and 'class="slider"' not in text
