"""Formats records, hypotheses and profiles as tables of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfkd.records import Hypothesis
    from tfkd.training.profiling import Profile


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats text columns: the first aligned to the left, the others to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def record_report(row: Mapping[str, Any]) -> str:
    """Formats one record: the facts about the utterance, and a row for each hypothesis, best first.

    Args:
      row: of `tfkd.distillation.nbest_conversion.row_of`. What is unknown is shown as "-".
    """
    seconds = row["num_samples"] / row["sample_rate_hz"]
    facts = {
        "utterance_id": row["utterance_id"],
        "seconds": f"{seconds:.3f} at {row['sample_rate_hz']} Hz",
        "speaker": row.get("speaker", "-"),
        "reference": row.get("text", "-"),
    }
    lines = [f"{name:12}  {value}".rstrip() for name, value in facts.items()]
    if "hypotheses" in row:
        lines += ["", _hypotheses_table(row["hypotheses"])]
    return "\n".join(lines)


def _hypotheses_table(hypotheses: Sequence[Mapping[str, Any]]) -> str:
    numbers = [
        [
            str(rank),
            *(_number(each.get(name)) for name in ("score", "log_prob")),
            str(len(each["token_ids"])) if "token_ids" in each else "-",
            each.get("finish_reason", "-"),
            _number(each.get("coverage")),
        ]
        for rank, each in enumerate(hypotheses, start=1)
    ]
    header = ["rank", "score", "log_prob", "tokens", "finish", "coverage"]
    texts = ["text", "----", *(each["text"] for each in hypotheses)]
    lines = table(header, numbers).splitlines()
    return "\n".join(f"{line}  {text}".rstrip() for line, text in zip(lines, texts, strict=True))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def profile_report(profile: Profile, sample_rate_hz: int) -> str:
    """Formats a training's profile: seconds of each part, and audio learned from per second."""
    if not profile.steps:
        return "nothing was left to train, so there is nothing to profile"
    wall_seconds = profile.wall_seconds
    parts = {**profile.seconds, "in all": wall_seconds}
    rows = [
        [part, f"{seconds:.2f}", f"{100 * seconds / wall_seconds:.1f}"]
        for part, seconds in parts.items()
    ]
    # Rates are per second of training steps, without the time of validation.
    learning_seconds = profile.learning_seconds
    audio_seconds = (profile.samples - profile.padded_samples) / sample_rate_hz
    return "\n".join(
        [
            table(["where the time went", "seconds", "%"], rows),
            f"{profile.steps} steps; while they ran, "
            f"{profile.utterances / learning_seconds:.1f} utterances and "
            f"{audio_seconds / learning_seconds:.1f} seconds of audio a second; "
            f"{100 * profile.padding:.1f} % of the batches was padding",
        ]
    )


def nbest_text(
    utterance_id: str, hypotheses: Sequence[Hypothesis], piece_of: Callable[[int], str]
) -> str:
    """Formats the hypotheses of one utterance, each with its tokens, their log_prob and seconds.

    Coverage and seconds are left out where a teacher does not know them.
    """
    lines = [utterance_id]
    for rank, hypothesis in enumerate(hypotheses, 1):
        coverage = hypothesis.coverage
        lines.append(
            f"  {rank}  score {hypothesis.score:.3f}  log_prob {hypothesis.log_prob:.3f}  "
            f"{hypothesis.finish_reason}  "
            + ("" if coverage is None else f"coverage {coverage:.2f}  ")
            + hypothesis.text
        )
        places = [f" @{seconds:.2f}s" for seconds in hypothesis.token_seconds]
        places = places or [""] * len(hypothesis.token_ids)  # unknown
        tokens = zip(hypothesis.token_ids, hypothesis.token_log_probs, places, strict=True)
        lines.append("     " + "  ".join(
            f"{piece_of(token)!r} {log_prob:.2f}{place}" for token, log_prob, place in tokens
        ))  # fmt: skip
    return "\n".join(lines)


def human_bytes(count: int) -> str:
    """Bytes in kB or MB (powers of ten)."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
