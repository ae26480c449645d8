"""`--estimate` of the commands that ask a text model: what a run will cost, from a pilot."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rplab.cli.data_jobs import Job, run_job
from rplab.cli.text_model import Reporter, stop_on_signal
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.dialogue.pilot import Pilot


def run_or_estimate(job: Job, arguments: argparse.Namespace) -> int:
    """Run a job, or its pilot when `--estimate` asks for that."""
    if arguments.estimate:
        return show_estimate(job, arguments.estimate, as_json=arguments.json)
    return run_job(job, as_json=arguments.json, force=arguments.force)


def show_estimate(job: Job, num_items: int, *, as_json: bool) -> int:
    """Run the pilot of a job and print the forecast.

    Args:
        job: The whole run.
        num_items: Items to make for real.
        as_json: Print one JSON object.
    """
    from rplab.dialogue.pilot import run_estimate

    with stop_on_signal() as stop:
        pilot = run_estimate(
            job.stage,
            job.function,
            job.config,
            job.inputs,
            job.out,
            num_items,
            report=Reporter(),
            stop=stop,
            count_items=job.count_items,
        )
    if as_json:
        print(json.dumps(asdict(pilot), ensure_ascii=False))
        return 0
    for line in _lines(job, pilot):
        print(line)
    return 0


def _lines(job: Job, pilot: Pilot) -> list[str]:
    from rplab.dialogue.pace import show_seconds

    found, tokens = pilot.estimate, pilot.estimate.tokens
    lines = [
        tr(
            f"{pilot.num_items}개를 실제로 만들어 봄: {pilot.good:.0%} 통과, 하나에 요청 {pilot.requests_per_item:.2f}번",
            f"pilot: {pilot.num_items} items made, {pilot.good:.0%} good, {pilot.requests_per_item:.2f} requests an item",
        ),
        tr(
            f"전체 {found.num_items:,}개: 토큰 {tokens.expected:,.0f}개 (95 %: {tokens.low:,.0f} ~ {tokens.high:,.0f}), "
            f"그중 입력 {found.prompt_tokens:,}, 출력 {found.completion_tokens:,}",
            f"whole run of {found.num_items:,} items: {tokens.expected:,.0f} tokens (95 %: {tokens.low:,.0f} to {tokens.high:,.0f}), "
            f"{found.prompt_tokens:,} in prompts, {found.completion_tokens:,} in answers",
        ),
    ]
    if found.usd is None:
        price = "--backend-set price_input_usd=… --backend-set price_output_usd=…"
        lines.append(tr(f"이 모델의 가격을 모릅니다: {price}", f"the price of this model is not known; state it: {price}"))
    elif found.usd.expected:
        lines.append(tr("비용", "cost") + f": ${found.usd.expected:,.2f} (95 %: ${found.usd.low:,.2f} to ${found.usd.high:,.2f})")
        if job.first_requests is not None and found.batch_usd is not None:
            lines[-1] += f"; ${found.batch_usd:,.2f} " + tr("(rplab data batch)", "through `rplab data batch`")
    else:
        lines.append(tr("비용: 없음 (이 컴퓨터에서 실행)", "cost: none, the model runs on this machine"))
    if pilot.seconds is not None:
        lines.append(tr("시간: 약 ", "time: about ") + show_seconds(pilot.seconds))
    go_on = f"run the same command without --estimate to go on from the pilot's answers ({job.out})"
    return [*lines, tr(f"이 답들은 그대로 쓰입니다: 같은 명령을 --estimate 없이 실행하세요 ({job.out})", go_on)]
