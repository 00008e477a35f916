"""Writes docs/reference/vendors.md and its Chinese twin from the profiles, so that they cannot differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from dujiang.vendors.profile_schema import Face, Fact, LimitRule, Model, Profile, PublishedLimit, Refusal
from dujiang.vendors.profiles import load_profile, profile_names

Language = Literal["en", "zh"]

_UNCHECKED = "†"

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Vendors", "供应商"),
    "made": (
        "This page is generated from the profiles in `src/dujiang/vendors/profile_data/`; "
        "`dujiang.vendors.profiles_page.profiles_page` writes it, a test compares.",
        "本页由 `src/dujiang/vendors/profile_data/` 中的供应商档案生成，"
        "由 `dujiang.vendors.profiles_page.profiles_page` 写出，并有测试比对。",
    ),
    "use": (
        "Name a profile in the configuration (`profile: deepseek`), or write one of your own: "
        "[Add a vendor](../how-to/add-a-vendor.md).",
        "在配置中写档案名（`profile: deepseek`），或自己写一份：[接入新供应商](../how-to/add-a-vendor.zh.md)。",
    ),
    "unchecked": (
        f"{_UNCHECKED} marks what no page of the vendor that could be read settles. "
        "Vendors change without notice: the configured limits and the announced ones go before anything here.",
        f"{_UNCHECKED} 表示在能读到的供应商页面中没有得到证实。供应商随时会改动："
        "配置中的限额和响应头中公布的限额优先于本页。",
    ),
    "profile": ("profile", "档案"),
    "vendor": ("vendor", "供应商"),
    "protocols": ("protocols", "协议"),
    "limits_on": ("limits on", "限制维度"),
    "announces": ("announces", "公布剩余额度"),
    "face": ("protocol", "协议"),
    "address": ("address", "地址"),
    "own_address": ("in the configuration", "写在配置中"),
    "key": ("key", "密钥头"),
    "serves": ("serves", "提供的接口"),
    "usage": ("usage in streams", "流中的用量"),
    "option": ("when asked", "请求时给出"),
    "always": ("always", "总是给出"),
    "never": ("never", "不给出"),
    "dimension": ("dimension", "维度"),
    "window": ("window", "窗口"),
    "shape": ("shape", "形态"),
    "scope": ("per", "作用范围"),
    "charge": ("what counts", "计量方式"),
    "model": ("model", "模型"),
    "slots": ("at once", "同时进行"),
    "sliding": ("sliding", "滑动"),
    "aligned": ("aligned", "对齐"),
    "bucket": ("bucket", "令牌桶"),
    "slice": ("slices", "分片"),
    "unknown": ("unknown", "未知"),
    "each": ("also each", "另按每"),
    "account": ("account", "账号"),
    "project": ("project", "项目"),
    "actual": ("actual use", "实际用量"),
    "uncached": ("actual use without cache hits", "扣除缓存命中后的实际用量"),
    "arrival_settled": (
        "input and largest output at arrival, settled at the end",
        "到达时按输入与最大输出预扣，结束时结算",
    ),
    "arrival_max": ("input and largest output at arrival, not given back", "到达时按输入与最大输出计，不退还"),
    "refused_yes": ("Refused requests count.", "被拒绝的请求也计数。"),
    "refused_no": ("Refused requests do not count.", "被拒绝的请求不计数。"),
    "frees_yes": ("Hanging up frees the slot.", "断开连接即释放并发。"),
    "frees_no": ("Hanging up does not free the slot.", "断开连接不释放并发。"),
    "state_yes": ("Keeps the state of Responses.", "保存 Responses 的状态。"),
    "lag": ("A slot counts {} longer than the last byte.", "最后一个字节之后，并发仍占用 {}。"),
    "headers": ("Limit headers", "限额响应头"),
    "retry": ("Wait", "等待时间"),
    "request_id": ("Request id", "请求编号"),
    "none": ("none", "无"),
    "published": ("Published for new accounts", "公布的入门限额"),
    "tier": ("tier", "等级"),
    "value": ("value", "数值"),
    "refusals": ("Refusals, the first that matches", "拒绝的含义，取第一条匹配"),
    "when": ("when", "条件"),
    "means": ("means", "含义"),
    "message": ("message has", "消息含"),
    "status": ("status", "状态码"),
    "code": ("code", "错误码"),
    "type": ("type", "错误类型"),
    "context": ("context", "上下文"),
    "output": ("largest output", "最大输出"),
    "tokenizer": ("tokenizer", "分词器"),
    "sources": ("Sources", "来源"),
    "read": ("read {}", "阅读于 {}"),
    "via": ("by way of {}", "经由 {}"),
    "comma": (", ", "、"),
    "colon": (": ", "："),
    "stop": (".", "。"),
}


def profiles_page(language: Language) -> str:
    """Return the reference page of all our profiles as Markdown."""
    page = _Page(language)
    return page.write([load_profile(name) for name in profile_names()])


class _Page:
    """One page in one language; every method returns finished Markdown lines."""

    def __init__(self, language: Language) -> None:
        self._column = 0 if language == "en" else 1

    def write(self, profiles: Sequence[Profile]) -> str:
        lines = [f"# {self._say('title')}", ""]
        for word in ("made", "use", "unchecked"):
            lines += [self._say(word), ""]
        lines += self._overview(profiles)
        for profile in profiles:
            lines += self._profile(profile)
        return "\n".join(lines).rstrip() + "\n"

    def _say(self, word: str) -> str:
        return _WORDS[word][self._column]

    def _join(self, parts: Iterable[str]) -> str:
        return self._say("comma").join(parts)

    def _table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
        lines = ["| " + " | ".join(map(self._say, heads)) + " |", "|" + " --- |" * len(heads)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        return [*lines, ""]

    def _overview(self, profiles: Sequence[Profile]) -> list[str]:
        rows = [
            (
                f"[`{profile.name}`](#{profile.name})",
                profile.title,
                self._join(name for name, _ in _faces(profile)),
                self._join(dict.fromkeys(f"`{rule.dimension}`" for rule in profile.limits)),
                self._join(dict.fromkeys(f"`{header.dimension}`" for header in profile.limit_headers))
                or self._say("none"),
            )
            for profile in profiles
        ]
        return self._table(("profile", "vendor", "protocols", "limits_on", "announces"), rows)

    def _profile(self, profile: Profile) -> list[str]:
        lines = [f"## {profile.name}", "", profile.title, ""]
        lines += self._table(
            ("face", "address", "key", "serves", "usage"),
            [self._face(name, face) for name, face in _faces(profile)],
        )
        if profile.limits:
            lines += self._table(("dimension", "window", "shape", "scope", "charge"), map(self._limit, profile.limits))
        lines += [*self._habits(profile), ""]
        if profile.published:
            lines += [self._say("published") + self._say("colon").rstrip(), ""]
            lines += self._table(
                ("tier", "model", "dimension", "window", "value"), map(self._published, profile.published)
            )
        if profile.refusals:
            lines += [self._say("refusals") + self._say("colon").rstrip(), ""]
            lines += self._table(("when", "means"), map(self._refusal, profile.refusals))
        if profile.models:
            lines += self._table(("model", "context", "output", "tokenizer"), map(self._model, profile.models))
        lines += [self._say("sources") + self._say("colon").rstrip(), ""]
        for page in profile.sources:
            via = f", {self._say('via').format(f'<{page.via}>')}" if page.via else ""
            lines.append(f"- <{page.url}>{via} ({self._say('read').format(page.read)}): {page.what}")
        return [*lines, ""]

    def _face(self, name: str, face: Face) -> tuple[str, ...]:
        served = [operation for operation in face.paths.__struct_fields__ if getattr(face.paths, operation) is not None]
        return (
            _marked(name, face),
            f"`{face.base_url}`" if face.base_url else self._say("own_address"),
            f"`{face.auth.header}: {face.auth.value('…')}`",
            self._join(f"{operation} `{getattr(face.paths, operation)}`" for operation in served),
            self._say(face.stream_usage),
        )

    def _limit(self, rule: LimitRule) -> tuple[str, ...]:
        shape = self._say(rule.shape) if rule.shape else self._say("slots")
        if rule.slice:
            shape += f" ({self._say('each')} {rule.slice})"
        scope = self._say(rule.scope) if rule.scope != "key" else self._say("key")
        if rule.per_model:
            scope += f" + {self._say('model')}"
        window = f"{rule.window} ({rule.time_zone})" if rule.window == "day" else rule.window
        return (_marked(f"`{rule.dimension}`", rule), window, shape, scope, self._say(rule.charge))

    def _habits(self, profile: Profile) -> list[str]:
        def settled(word: str, field: str) -> str:
            return self._say(word) + (f" {_UNCHECKED}" if field in profile.unverified else "")

        lines = [
            settled("refused_yes" if profile.refused_count else "refused_no", "refused_count"),
            settled("frees_yes" if profile.disconnect_frees else "frees_no", "disconnect_frees"),
        ]
        if profile.keeps_state:
            lines.append(settled("state_yes", "keeps_state"))
        if profile.release_lag_ns:
            lines.append(settled("lag", "release_lag").format(profile.release_lag))
        headers = [
            _marked(f"`{name}`", header)
            for header in profile.limit_headers
            for name in (header.limit, header.remaining, header.reset)
            if name
        ]
        hints = [_marked(f"`{hint.header or hint.body}` ({hint.unit})", hint) for hint in profile.retry_hints]
        lines.append(self._sentence("headers", self._join(headers) or self._say("none")))
        lines.append(self._sentence("retry", self._join(hints) or self._say("none")))
        if profile.request_id_header:
            mark = f" {_UNCHECKED}" if "request_id_header" in profile.unverified else ""
            lines.append(self._sentence("request_id", f"`{profile.request_id_header}`{mark}"))
        return [f"- {line}" for line in lines]

    def _sentence(self, subject: str, rest: str) -> str:
        return f"{self._say(subject)}{self._say('colon')}{rest}{self._say('stop')}"

    def _published(self, limit: PublishedLimit) -> tuple[str, ...]:
        return (limit.tier, limit.model, f"`{limit.dimension}`", limit.window, _marked(f"{limit.value:,}", limit))

    def _refusal(self, rule: Refusal) -> tuple[str, ...]:
        tests = (
            ("status", rule.status),
            ("code", rule.code),
            ("type", rule.type),
            ("message", rule.message_contains),
        )
        when = self._join(f"{self._say(word)} `{value}`" for word, value in tests if value is not None)
        return (when, _marked(f"`{rule.means}`", rule))

    def _model(self, model: Model) -> tuple[str, ...]:
        def count(tokens: int | None) -> str:
            return f"{tokens:,}" if tokens is not None else ""

        tokenizer = model.tokenizer if model.tokenizer != "none" else ""
        name = _marked(f"`{model.name}`", model)
        return (name, count(model.context_tokens), count(model.max_output_tokens), tokenizer)


def _faces(profile: Profile) -> list[tuple[str, Face]]:
    faces = (("openai", profile.faces.openai), ("anthropic", profile.faces.anthropic))
    return [(name, face) for name, face in faces if face is not None]


def _marked(text: str, fact: Fact) -> str:
    return text if fact.verified else f"{text} {_UNCHECKED}"
