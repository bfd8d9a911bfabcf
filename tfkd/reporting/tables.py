"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfkd.records import Hypothesis

if TYPE_CHECKING:
    from tfkd.training.profiling import Profile


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned text columns: the first to the left, the others to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def record_report(row: Mapping[str, Any]) -> str:
    """One record: what is known of the utterance, and a row for each hypothesis, best first.

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
    return "\n".join(f"{line}  {text}".rstrip() for line, text in zip(lines, texts))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def profile_report(profile: Profile, sample_rate_hz: int) -> str:
    """Where the time of a training went, a row a part, and how much it learned from meanwhile."""
    if not profile.steps:
        return "nothing was left to train, so there is nothing to profile"
    wall_seconds = profile.wall_seconds
    parts = {**profile.seconds, "in all": wall_seconds}
    rows = [
        [part, f"{seconds:.2f}", f"{100 * seconds / wall_seconds:.1f}"]
        for part, seconds in parts.items()
    ]
    # Of the time in which it learned: how long validation takes is another matter.
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


def systems_table(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a system: errors, sizes and speed, with the compression against the first."""
    header = ["system", "WER %", "95 % interval", "CER %", "ins", "del", "sub", "parameters",
              "ratio", "size", "RTF"]  # fmt: skip
    largest = max(system["parameters"] for system in systems.values())
    rows = [
        [
            name,
            f"{100 * s['wer']:.2f}",
            f"{100 * s['wer_low']:.2f} - {100 * s['wer_high']:.2f}",
            f"{100 * s['cer']:.2f}",
            str(s["insertions"]),
            str(s["deletions"]),
            str(s["substitutions"]),
            f"{s['parameters']:,}",
            f"{largest / s['parameters']:.1f}x",
            human_bytes(s["bytes"]),
            f"{s['rtf']:.4f}",
        ]
        for name, s in systems.items()
    ]
    return table(header, rows)


def results_report(results: Mapping[str, Any]) -> str:
    """The closing table of `tfkd run`, and what distillation gave over the baseline."""
    systems = results["systems"]
    first = next(iter(systems.values()))
    gain = results["seq_kd_minus_truth"]
    return "\n".join(
        [
            systems_table(systems),
            "",
            f"{first['utterances']} utterances, {first['words']} words. RTF: seconds of computing "
            "per second of audio, Keras and SavedModel in batches, .tflite one by one on a thread.",
            f"Student on pseudo labels minus student on the truth: {100 * gain['wer']:+.2f} "
            f"points of WER (95 % interval {100 * gain['wer_low']:+.2f} to "
            f"{100 * gain['wer_high']:+.2f}).",
        ]
    )


def nbest_text(utterance_id: str, hypotheses: Sequence[Hypothesis], pieces: Sequence[str]) -> str:
    """The hypotheses of one utterance; under each its tokens, with log_prob and peak in seconds."""
    lines = [utterance_id]
    for rank, hypothesis in enumerate(hypotheses, 1):
        lines.append(
            f"  {rank}  score {hypothesis.score:.3f}  log_prob {hypothesis.log_prob:.3f}  "
            f"{hypothesis.finish_reason}  coverage {hypothesis.coverage:.2f}  {hypothesis.text}"
        )
        tokens = zip(hypothesis.token_ids, hypothesis.token_log_probs, hypothesis.token_seconds)
        lines.append("     " + "  ".join(
            f"{pieces[token]!r} {log_prob:.2f} @{seconds:.2f}s"
            for token, log_prob, seconds in tokens
        ))  # fmt: skip
    return "\n".join(lines)


def human_bytes(count: int) -> str:
    """Bytes in kB or MB (powers of ten)."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def results_markdown(results: Mapping[str, Any], title: str) -> str:
    """A page for docs/recipes: every figure of results.json that a reader compares."""
    systems = results["systems"]
    first = next(iter(systems.values()))
    seconds = results["stage_seconds"]
    gain = results["seq_kd_minus_truth"]
    parity = [
        [
            row["format"],
            human_bytes(row["bytes"]),
            f"{row['identical']:.1%} of {row['utterances']}",
            f"{100 * row['wer_change']:+.2f}",
        ]
        for row in results["parity"]
    ]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    seeds = {role: results["config"][role]["training"]["seed"] for role in ("teacher", "student")}
    lines = [
        f"# {title}",
        "",
        "Written by `tfkd report` from the results of a run, which lie beside this page.",
        "",
        "```",
        systems_table(systems),
        "```",
        "",
        f"Test set: {first['utterances']} utterances, {first['words']} words, "
        f"{first['audio_seconds'] / 60:.1f} minutes. Intervals: bootstrap over utterances.",
        "",
        f"Student on pseudo labels minus student on the truth: {100 * gain['wer']:+.2f} points of "
        f"WER (95 % interval {100 * gain['wer_low']:+.2f} to {100 * gain['wer_high']:+.2f}).",
        "",
        "Exports against Keras on validation utterances (WER change in points):",
        "",
        "```",
        table(["form", "size", "same ids", "WER change"], parity),
        "```",
        "",
        "Wall time in minutes: "
        + ", ".join(f"{name} {value / 60:.1f}" for name, value in seconds.items())
        + f"; together {sum(seconds.values()) / 60:.1f}.",
        "",
        f"{results['date']}; {results['hardware']}; {versions}; "
        + ", ".join(f"{role} seed {seed}" for role, seed in seeds.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"
