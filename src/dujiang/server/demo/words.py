"""Every text the demo shows, in English and in Chinese; the type lets none be missing in either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dujiang.server.cli.language import Language


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language; braces are filled by `str.format`."""

    language_name: str
    title: str
    direct: str
    direct_explained: str
    gateway: str
    gateway_explained: str
    traffic: str
    traffic_published: str
    traffic_kept: str
    limits: str
    demand: str
    patience: str
    speed: str
    starting_vendor: str
    starting_gateway: str
    calls_sent: str
    calls_answered: str
    calls_failed: str
    calls_waiting: str
    met_429s: str
    quota_used: str
    figure: str
    in_time: str
    answered_at_all: str
    refusals: str
    failed_for_app: str
    vendor_requests: str
    wait: str
    latency: str
    tokens_used: str
    requests_used: str
    times_note: str
    measured_note: str
    chart_at: str
    figures_at: str
    interrupted: str
    minutes: str
    chart_flow: str
    chart_flow_note: str
    chart_due: str
    chart_lost: str
    chart_lost_note: str
    chart_refusals: str
    chart_refusals_note: str
    chart_open: str
    chart_open_note: str
    chart_wait: str
    chart_wait_note: str
    chart_no_answer: str
    chart_patience: str
    chart_quota: str
    chart_quota_note: str
    chart_quota_line: str
    chart_time: str
    no_sdk: str
    bad_speed: str
    bad_trace: str
    no_answers: str
    child_failed: str
    cannot_write: str


EN: Final = Words(
    language_name="English",
    title="Ten minutes of chat traffic against one vendor account, twice",
    direct="As most apps do it",
    direct_explained="the official SDK with its own retries, straight to the vendor",
    gateway="Through Dujiang",
    gateway_explained="the same code, only the base URL and the key changed",
    traffic="Traffic: {name}, seed {seed}: {calls} of {recorded} calls in {minutes} min, "
    "{tokens_in} tokens in and {tokens_out} out on average",
    traffic_published="Arrivals and sizes are made up after the published Azure LLM inference trace 2023 "
    "(conversation).",
    traffic_kept="Each call is kept with the same probability, so that one account can carry them.",
    limits="Vendor: {requests} requests / 60 s, {tokens} tokens / 60 s (rolling windows), {concurrency} calls at once",
    demand="Mean demand: {requests} of the requests, {tokens} of the tokens, {concurrency} of the slots; "
    "the busiest 60 s ask for {peak} of the tokens",
    patience="A user waits {patience} s for the whole answer.",
    speed="Time runs {speed} times as fast; every time below is in seconds of the traffic.",
    starting_vendor="starting the simulated vendor",
    starting_gateway="starting Dujiang",
    calls_sent="sent",
    calls_answered="answered",
    calls_failed="failed",
    calls_waiting="waiting",
    met_429s="429s",
    quota_used="of the vendor's token quota in use, calls at the vendor:",
    figure="Measured in this run",
    in_time="Answered in time",
    answered_at_all="Answered at all",
    refusals="429s the vendor sent",
    failed_for_app="Calls that failed for the app",
    vendor_requests="Requests the vendor saw",
    wait="Wait p50 / p95",
    latency="Time to the whole answer p50 / p95",
    tokens_used="Share of the token quota used",
    requests_used="Share of the request quota used",
    times_note="Wait is the time to the answer without the vendor's own work: queue, refusals and back-off. "
    "Waits and times are those of answered calls.",
    measured_note="Every number was measured in this run, the vendor's by the vendor.",
    chart_at="Chart: {path}",
    figures_at="Figures: {path}",
    interrupted="Interrupted; everything that was started has been stopped.",
    minutes="min",
    chart_flow="Calls answered in time",
    chart_flow_note="per 10 s; the grey steps are the calls that users made",
    chart_due="Calls made",
    chart_lost="Calls without an answer in time",
    chart_lost_note="since the beginning",
    chart_refusals="429s the vendor sent",
    chart_refusals_note="per 10 s",
    chart_open="Calls the users wait for",
    chart_open_note="mean over 10 s",
    chart_wait="Wait of each call",
    chart_wait_note="seconds, at the moment of the call; crosses on top are calls that got no answer",
    chart_no_answer="no answer",
    chart_patience="patience",
    chart_quota="Tokens in the vendor's window",
    chart_quota_note="share of the quota",
    chart_quota_line="quota",
    chart_time="minutes of the traffic",
    no_sdk="The demo calls the vendor with the official SDK, which is not installed. Install it: "
    "pip install 'dujiang[demo]'",
    bad_speed="--speed is {value}. Write a number from 1 to 60.",
    bad_trace="The trace cannot be played. {error}",
    no_answers="No call was answered in the run “{run}”; the first reason was: {reason}",
    child_failed="{name} does not run. Its last words:\n{log}",
    cannot_write="{path} cannot be written ({reason}). Give another --out or --json.",
)

ZH: Final = Words(
    language_name="中文",
    title="十分钟对话流量，同一个供应商账号，跑两遍",
    direct="多数应用的做法",
    direct_explained="官方 SDK 自带重试，直连供应商",
    gateway="经过 Dujiang",
    gateway_explained="同一份代码，只换了 base URL 和密钥",
    traffic="流量：{name}，种子 {seed}：{minutes} 分钟内取 {recorded} 次调用中的 {calls} 次，"
    "平均输入 {tokens_in}、输出 {tokens_out} 词元",
    traffic_published="到达节奏与长度按已公开的 Azure 2023 年大模型推理对话轨迹生成。",
    traffic_kept="每次调用以相同概率保留，使一个账号承载得下。",
    limits="供应商：每 60 秒 {requests} 次请求、{tokens} 词元（滚动窗口），同时 {concurrency} 路",
    demand="平均需求：请求额度的 {requests}，词元额度的 {tokens}，并发的 {concurrency}；"
    "最忙的 60 秒要用词元额度的 {peak}",
    patience="用户最多等 {patience} 秒拿到完整回答。",
    speed="时间加快 {speed} 倍；下面所有时间都是流量里的秒。",
    starting_vendor="正在启动模拟供应商",
    starting_gateway="正在启动 Dujiang",
    calls_sent="已发出",
    calls_answered="已回答",
    calls_failed="失败",
    calls_waiting="等待中",
    met_429s="429",
    quota_used="供应商词元额度在用，供应商处理中的调用：",
    figure="本次实测",
    in_time="按时回答",
    answered_at_all="最终回答",
    refusals="供应商返回的 429",
    failed_for_app="应用拿不到回答的调用",
    vendor_requests="供应商收到的请求",
    wait="等待 p50 / p95",
    latency="完整回答耗时 p50 / p95",
    tokens_used="词元额度使用率",
    requests_used="请求额度使用率",
    times_note="等待 = 回答耗时减去供应商自身处理时间，即排队、被拒和退避。等待与耗时只统计有回答的调用。",
    measured_note="所有数字都在本次运行中测得，供应商一侧由供应商自己计数。",
    chart_at="图表：{path}",
    figures_at="数据：{path}",
    interrupted="已中断；已启动的进程都已停止。",
    minutes="分",
    chart_flow="按时回答的调用",
    chart_flow_note="每 10 秒；灰色阶梯是用户发起的调用",
    chart_due="发起的调用",
    chart_lost="没有按时得到回答的调用",
    chart_lost_note="自开始以来累计",
    chart_refusals="供应商返回的 429",
    chart_refusals_note="每 10 秒",
    chart_open="用户正在等的调用",
    chart_open_note="10 秒平均",
    chart_wait="每次调用的等待",
    chart_wait_note="秒，画在发起的时刻；上方的叉号是没有得到回答的调用",
    chart_no_answer="无回答",
    chart_patience="耐心",
    chart_quota="供应商窗口内的词元",
    chart_quota_note="占额度的比例",
    chart_quota_line="额度",
    chart_time="流量时间（分）",
    no_sdk="演示用官方 SDK 调用供应商，但它尚未安装。请安装：pip install 'dujiang[demo]'",
    bad_speed="--speed 的值是 {value}。请写 1 到 60 之间的数。",
    bad_trace="无法播放该轨迹。{error}",
    no_answers="“{run}”这一遍没有任何调用得到回答；第一个原因是：{reason}",
    child_failed="{name} 没有在运行。它最后的输出：\n{log}",
    cannot_write="无法写入 {path}（{reason}）。请换一个 --out 或 --json。",
)

WORDS: Final = {Language.EN: EN, Language.ZH: ZH}
