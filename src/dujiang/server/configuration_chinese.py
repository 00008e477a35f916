"""The configuration page's words in both languages, and each key's meaning in Chinese, by its English."""

from __future__ import annotations

from typing import Final

WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Configuration", "配置"),
    "made": (
        "This page is generated from `src/dujiang/config/schema.py`; "
        "`python -m dujiang.server.reference_pages docs/reference` writes it, a test compares.",
        "本页由 `src/dujiang/config/schema.py` 生成，"
        "由 `python -m dujiang.server.reference_pages docs/reference` 写出，并有测试比对。",
    ),
    "file": (
        "One YAML file says what a gateway is. `dujiang init` writes a first one, `dujiang validate` names every "
        "mistake in it. It is loaded again when it changes; a bad one is refused and the old one stays.",
        "一份 YAML 文件描述一个网关。`dujiang init` 写出初始文件，`dujiang validate` 指出其中的每一处错误。"
        "文件改动后自动重新加载；有错误的会被拒绝，旧配置继续生效。",
    ),
    "references": (
        "`${NAME}` stands for an environment variable, `${NAME:-value}` has a default. Write secrets only so.",
        "`${NAME}` 表示环境变量，`${NAME:-value}` 带默认值。密钥只应这样书写。",
    ),
    "units": (
        "Durations are written `500ms`, `60s`, `10m`, `1.5h`, `2d`; sizes as bytes or `64KiB`, `25MiB`. "
        "In the paths below `NAME` is a name of your choice and `[]` each item of a list.",
        "时长写作 `500ms`、`60s`、`10m`、`1.5h`、`2d`；大小写作字节数或 `64KiB`、`25MiB`。"
        "下文路径中 `NAME` 为自取的名称，`[]` 为列表的每一项。",
    ),
    "mistakes": (
        "An unknown key is a mistake, and so is a rule that matches nothing.",
        "未知的键是错误，不匹配任何对象的规则也是错误。",
    ),
    "example": (
        "A whole one, for the simulated vendor (`dujiang init --simulated`):",
        "一份完整的示例，用于模拟供应商（`dujiang --language zh init --simulated`）：",
    ),
    "kind": ("Value", "取值"),
    "default": ("Default", "默认"),
    "required": ("Required", "必填"),
    "duration": ("a duration", "时长"),
    "size": ("a size", "大小"),
    "window": ("a duration or `day`", "时长或 `day`"),
    "text": ("text", "文本"),
    "number": ("a whole number", "整数"),
    "boolean": ("`true` or `false`", "`true` 或 `false`"),
    "secret": ("text, kept out of every output", "文本，不出现在任何输出中"),
    "list": ("a list, each item {}", "列表，每一项为{}"),
    "list_of_keys": ("a list, each item with the keys below", "列表，每一项含后述各键"),
    "by_name": ("the keys below, by name", "以名称为键，其下为后述各键"),
    "keys_below": ("the keys below", "后述各键"),
    "one_of": ("one of {}", "{} 之一"),
    "at_least": ("at least {}", "至少 {} 项"),
    "limits_told": (
        "a list of limits, like [`vendors.NAME.credentials[].limits`](#vendorsnamecredentialslimits)",
        "限额列表，写法同 [`vendors.NAME.credentials[].limits`](#vendorsnamecredentialslimits)",
    ),
    "comma": (", ", "，"),
    "colon": (": ", "："),
    "stop": (".", "。"),
    "gap": (" ", ""),
}

MEANINGS: Final[dict[str, str]] = {
    "The door: where it listens and what it accepts.": "对外的门：在哪里监听，接受什么。",
    "The address to listen on.": "监听地址。",
    "The port to listen on; 0 lets the system choose.": "监听端口；0 表示由系统选择。",
    "Processes that serve; they share every limit exactly.": "提供服务的进程数；各进程精确共享所有限额。",
    "The largest request body.": "请求体的最大字节数。",
    "The largest request head: request line and headers together.": "请求头部（请求行与全部头）的最大字节数。",
    "Open client connections a worker accepts; further ones are answered 503 and closed.": (
        "每个工作进程接受的客户端连接数；超出的以 503 应答并关闭。"
    ),
    "How long a client may take to send a request head.": "客户端发送请求头部的时限。",
    "How long a client may pause while it sends a body.": "客户端发送请求体时允许的停顿。",
    "How long a client may read nothing of its answer before it is cut off.": "客户端不读取应答达到此时长即被断开。",
    "How long an idle client connection stays open.": "空闲客户端连接的保持时间。",
    "After SIGTERM, how long calls in flight may still take.": "收到 SIGTERM 后，进行中的调用还可持续的时间。",
    "The secret that key hashes are peppered with; default: made once, kept beside the database.": (
        "计算密钥哈希所用的秘密；默认自动生成一次，存放在数据库旁。"
    ),
    "Whether a changed file is loaded without a SIGHUP.": "文件改动后是否无需 SIGHUP 即重新加载。",
    "Where keys and records are kept.": "密钥与调用记录的存放处。",
    "`sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, or `memory://` (lost at exit).": (
        "`sqlite:///相对路径.db`、`sqlite:////绝对路径.db`，或 `memory://`（退出后丢失）。"
    ),
    "Records are written in groups this often; a killed process loses at most this much.": (
        "记录成组写入的间隔；进程被强行终止时，至多丢失这段时间的记录。"
    ),
    "Records that may wait to be written; more are dropped and counted, no call is blocked.": (
        "可等待写入的记录数；超出的被丢弃并计数，不阻塞任何调用。"
    ),
    "How long, and how many, calls may wait.": "调用可等待多久，以及多少调用可等待。",
    "The deadline of a call that names none.": "未指明期限的调用的等待期限。",
    "Calls that may wait in a worker.": "每个工作进程中可等待的调用数。",
    "Calls of one tenant that may wait in a worker.": "每个工作进程中单个租户可等待的调用数。",
    "Bytes of request bodies that may wait in a worker.": "每个工作进程中等待的请求体总字节数上限。",
    "How tokens are estimated before a call.": "调用之前如何估计词元数。",
    "Whether the first calls of a tenant for a model are counted with the model's tokenizer, where one "
    "works offline (`dujiang[tokenizers]`, about 80 MB in every worker), instead of estimated by their size.": (
        "租户对某模型的最初几次调用，是否用可离线使用的分词器计数（`dujiang[tokenizers]`，每个工作进程约占 80 MB"
        "），而非按大小估计。"
    ),
    "What the gateway says of itself.": "网关对自身情况的输出。",
    "The least important log line that is written.": "写出的日志的最低级别。",
    "Whether every call is written to standard output as one JSON line.": "是否将每次调用作为一行 JSON 写到标准输出。",
    "Whether `/metrics` is served.": "是否提供 `/metrics`。",
    "Where traces go by OTLP over HTTP, for example http://127.0.0.1:4318/v1/traces; needs `dujiang[otel]`.": (
        "以 OTLP over HTTP 发送追踪的地址，例如 http://127.0.0.1:4318/v1/traces；需安装 `dujiang[otel]`。"
    ),
    "Who answers calls, by a name of your choice.": "应答调用的供应商，以自取的名称为键。",
    "The wire protocol it speaks.": "它使用的协议。",
    "Where it is; default: what its profile says.": "它的地址；默认取自档案。",
    "The vendor's habits, as data: a name of docs/reference/vendors.md or a path of your own file.": (
        "以数据描述的供应商特性：docs/reference/vendors.zh.md 中的名称，或自有文件的路径。"
    ),
    "An HTTP proxy to reach it through, http://[user:password@]host:port.": (
        "访问它所经由的 HTTP 代理，http://[用户:密码@]主机:端口。"
    ),
    "A PEM file of certificate authorities to trust instead of the system's.": (
        "替代系统证书、用于校验的 PEM 证书文件。"
    ),
    "How long each phase may take.": "各阶段的时限。",
    "Connecting, TLS included.": "建立连接，含 TLS。",
    "From the request sent to the first byte of the answer.": "从请求发出到应答首字节。",
    "Between two pieces of an answer.": "应答的两个片段之间。",
    "The whole answer.": "整个应答。",
    "How much longer than the fastest a request may take to reach the vendor; guards window edges.": (
        "请求到达供应商的时间最多比最快者多出多少；用于保护窗口边界。"
    ),
    "How long after the last byte the vendor frees a concurrency slot; default: its profile's.": (
        "最后一个字节之后多久供应商释放并发；默认取自档案。"
    ),
    "Open connections a worker keeps to it.": "每个工作进程与它保持的连接数。",
    "Headers of the caller that the vendor gets to see; a name, or a beginning with `*`: `x-acme-*`.": (
        "转发给供应商的调用方请求头；写名称，或以 `*` 结尾的前缀：`x-acme-*`。"
    ),
    "Our accounts there.": "我方在该处的账号。",
    "What deployments and `/v1/limits` call it.": "部署与 `/v1/limits` 中使用的名称。",
    "The vendor's API key; write it as ${NAME}, not in the file.": "供应商的 API 密钥；写作 ${NAME}，不要写进文件。",
    "Whose account it is. Accounts of one owner at one vendor share that vendor's limits.": (
        "账号的所有者。同一供应商处同一所有者的账号共享其限额。"
    ),
    "What the vendor allows this account.": "供应商给予该账号的限额。",
    "What is counted: requests, input_tokens, output_tokens, tokens, concurrency.": (
        "计量的对象：requests、input_tokens、output_tokens、tokens、concurrency。"
    ),
    "`60s`, `1h` … rolls; `day` turns at midnight of `time_zone`. Not for concurrency.": (
        "`60s`、`1h` 等为滚动窗口；`day` 在 `time_zone` 的午夜重置。concurrency 没有窗口。"
    ),
    "The most that fits into the window.": "窗口内的最大值。",
    "Where midnight is, for `window: day`.": "`window: day` 所用的时区。",
    "Only calls for these models count (a vendor's names under a credential); empty means all.": (
        "只计对这些模型的调用（账号之下写供应商的模型名）；留空表示全部。"
    ),
    "How the vendor's window moves; default: what the vendor's profile says, else `sliding`.": (
        "供应商窗口的移动方式；默认取自档案，否则为 `sliding`。"
    ),
    "With `shape: slice`, the length of the slices a vendor splits its window into.": (
        "配合 `shape: slice`，供应商将窗口切成的分片长度。"
    ),
    "What tenants ask for, by name.": "租户所调用的模型，以名称为键。",
    "Where it can be sent.": "可发往何处。",
    "A name under `vendors`.": "`vendors` 下的名称。",
    "The name of one of its credentials.": "该供应商的某个账号的名称。",
    "The vendor's name of the model.": "供应商的模型名。",
    "With `strategy: weighted`, its share; 0 takes it out of use.": "配合 `strategy: weighted`，其份额；0 表示停用。",
    "`ordered`: the first with room; `weighted`: spread by weight over those with room.": (
        "`ordered`：取第一个有余量的；`weighted`：按权重分摊到有余量的部署。"
    ),
    "Further names of the same model.": "同一模型的其他名称。",
    "What tenants are entitled to, by name.": "租户的套餐，以名称为键。",
    "Its share when tenants compete.": "租户竞争时的份额。",
    "Limits of each tenant on this plan.": "该套餐下每个租户的限额。",
    "Models it may use; empty means all.": "可用的模型；留空表示全部。",
    "The class of a call that names none.": "未指明优先级的调用的级别。",
    "The highest class a call may ask for; more is lowered to it.": "调用可要求的最高级别；更高的降至此级。",
    "How long a call may wait for the tenant's own limits before it is refused.": (
        "调用等待租户自身限额的最长时间，超过即被拒绝。"
    ),
    "Who calls.": "调用方。",
    "What the records and reports call it.": "记录与报表中使用的名称。",
    "A name under `plans`.": "`plans` 下的名称。",
    "How far the tenant was verified.": "租户的认证程度。",
    "Whether its calls are served.": "是否为其提供服务。",
    "Keys of its default project.": "默认项目的密钥。",
    "What the records call it.": "记录中使用的名称。",
    "At least 16 characters; write it as ${NAME}.": "至少 16 个字符；写作 ${NAME}。",
    "Limits of this key alone.": "仅属该密钥的限额。",
    "Models it may use; empty means those of the plan.": "可用的模型；留空表示套餐内的模型。",
    "Further projects.": "其他项目。",
    "What the records call it; `default` is taken by the tenant's own keys.": (
        "记录中使用的名称；`default` 已用于租户自身的密钥。"
    ),
    "Keys of this project.": "该项目的密钥。",
    "Limits of this project, beside those of the plan.": "套餐限额之外，该项目的限额。",
}
