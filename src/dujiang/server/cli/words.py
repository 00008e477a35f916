"""Every sentence of the command line, in English and in Chinese; braces are filled by `str.format`."""

from __future__ import annotations

from typing import Final

WORDS: Final[dict[str, tuple[str, str]]] = {
    "version": ("Dujiang {version}", "Dujiang {version}"),
    "try_help": ("`{command} --help` tells more.", "运行 `{command} --help` 查看说明。"),
    "wrong_usage": ("Error: {message}", "错误：{message}"),
    # Configuration
    "one_mistake": ("1 mistake; nothing was done.", "有 1 处错误，未执行任何操作。"),
    "mistakes": ("{count} mistakes; nothing was done.", "有 {count} 处错误，未执行任何操作。"),
    "valid": ("{path} is valid.", "{path} 有效。"),
    "summary_vendors": (
        "vendors: {count} ({names}), credentials: {credentials}",
        "供应商：{count} 个（{names}），账号：{credentials} 个",
    ),
    "summary_models": ("models: {count} ({names})", "模型：{count} 个（{names}）"),
    "summary_tenants": (
        "tenants: {count} ({names}), configured keys: {keys}",
        "租户：{count} 个（{names}），配置中的密钥：{keys} 个",
    ),
    "summary_limits": ("limits: {count}", "限额：{count} 条"),
    "note_no_models": (
        "note: no model is configured, so every call is refused; add `models`.",
        "注意：没有配置模型，所有调用都会被拒绝；请添加 `models`。",
    ),
    "note_no_tenants": (
        "note: no tenant is configured, so nobody can call; add `tenants`.",
        "注意：没有配置租户，无人能够调用；请添加 `tenants`。",
    ),
    "ca_file_unusable": (
        "{path} cannot be used: {reason}; name a readable PEM file of certificates",
        "无法使用 {path}：{reason}；请指定可读取的 PEM 证书文件",
    ),
    "protocol_not_served": (
        "the profile {profile!r} does not serve it; it serves: {served}",
        "档案 {profile!r} 不提供该协议；它提供：{served}",
    ),
    "no_base_url": (
        "the profile {profile!r} has no address of its own; add `base_url`",
        "档案 {profile!r} 没有自带地址；请添加 `base_url`",
    ),
    "cannot_serve": (
        "The gateway cannot start: {error}. `dujiang doctor {config}` finds out more.",
        "网关无法启动：{error}。运行 `dujiang doctor {config}` 查明原因。",
    ),
    # init
    "profile_or_simulated": (
        "--simulated has a profile of its own; leave out --profile.",
        "--simulated 自带档案，请去掉 --profile。",
    ),
    "wrote": ("Wrote {path}; only you can read it.", "已写入 {path}，仅您本人可读。"),
    "next_steps": ("Next:", "接下来："),
    "then_call": (
        "Then point your client at {url}, with the key that was printed, and ask for the model {model}.",
        "然后将客户端指向 {url}，使用打印出的密钥，调用模型 {model}。",
    ),
    "file_exists": (
        "{path} is there already; choose another path, or --force to write over it.",
        "{path} 已存在；请换一个路径，或用 --force 覆盖。",
    ),
    "cannot_write": (
        "{path} cannot be written: {reason}; choose another path.",
        "无法写入 {path}：{reason}；请换一个路径。",
    ),
    "yaml_head": (
        "What this gateway is. Every key: docs/reference/configuration.md; `dujiang validate` checks this file.",
        "本网关的配置。全部配置项见 docs/reference/configuration.zh.md；用 `dujiang validate` 检查本文件。",
    ),
    "yaml_variables": (
        "${NAME} is read from the environment, ${NAME:-value} has a default. A changed file is loaded while serving.",
        "${NAME} 取自环境变量，${NAME:-value} 带默认值。文件改动后会在运行中重新加载。",
    ),
    "yaml_server": ("0.0.0.0 lets other hosts in", "改为 0.0.0.0 可接受其他主机的访问"),
    "yaml_storage": ("keys and records; relative to where the gateway is started", "密钥与调用记录；相对于启动目录"),
    "yaml_profile_comment": (
        "its habits; docs/reference/vendors.md lists them",
        "供应商特性，见 docs/reference/vendors.zh.md",
    ),
    "yaml_own_address": ("unless told otherwise", "默认地址"),
    "yaml_owner": ("accounts of one owner share the vendor's limits", "同一所有者的账号共享供应商限额"),
    "yaml_account": (
        "What the vendor allows this account; its own page tells. Dujiang spends it to the last call.",
        "供应商给予该账号的限额，以供应商页面为准。Dujiang 会用足每一次额度。",
    ),
    "yaml_published": ("As published for: {tier}.", "公开资料中的等级：{tier}。"),
    "yaml_cautious": ("These are cautious guesses.", "以下为保守的估计值。"),
    "yaml_models": ("what callers ask for", "调用方使用的模型名"),
    "yaml_aliases": ("further names, so that callers need not change theirs", "别名，使调用方无需改动"),
    "yaml_deployments": (
        "tried in this order; several share the load and stand in for each other",
        "按此顺序尝试；多个部署分担负载、互为备用",
    ),
    "yaml_plans": ("what each tenant on it may use", "该套餐下每个租户的额度"),
    "yaml_tenants": ("who calls", "调用方"),
    "yaml_keys": (
        "`dujiang keys create --tenant shop` makes a key and keeps only its hash.",
        "`dujiang keys create --tenant shop` 生成密钥，且只保存其哈希。",
    ),
    "yaml_configured_key": (
        "Or configure one of your own, of at least 16 characters:",
        "也可自行配置，至少 16 个字符：",
    ),
    # Host
    "storage": ("storage", "存储"),
    "storage_unusable": (
        "{path} cannot be used: {reason}; correct storage.url or the rights of the folder",
        "无法使用 {path}：{reason}；请更正 storage.url 或目录权限",
    ),
    "storage_folder": (
        "{path} is a folder; name a file in storage.url, such as sqlite:///dujiang.db",
        "{path} 是目录；请在 storage.url 中指定文件，例如 sqlite:///dujiang.db",
    ),
    "storage_writable": ("{url} can be written", "{url} 可写"),
    "storage_lost": (
        "memory:// is lost at exit, and `dujiang keys` cannot reach it",
        "memory:// 退出后丢失，`dujiang keys` 也无法使用",
    ),
    "storage_lost_remedy": ("name a file: url: sqlite:///dujiang.db", "请指定文件：url: sqlite:///dujiang.db"),
    "port": ("port", "端口"),
    "port_free": ("{place} is free", "{place} 空闲"),
    "port_ours": ("Dujiang {version} runs at {place}", "Dujiang {version} 正在 {place} 运行"),
    "port_taken": ("{place} cannot be had: {reason}", "无法使用 {place}：{reason}"),
    "port_remedy": (
        "end what listens there, or choose another server.host and server.port",
        "请停止占用它的程序，或更改 server.host 与 server.port",
    ),
    # Vendors
    "vendors": ("vendors", "供应商"),
    "no_vendors": ("none is configured", "没有配置供应商"),
    "see_validate": ("`dujiang validate` names what is wrong", "运行 `dujiang validate` 查看错误"),
    "connected": ("{place} answers; {kind} connection in {ms} ms", "{place} 可达；{kind} 连接用时 {ms} 毫秒"),
    "unreachable": ("{place} cannot be reached: {reason}", "无法连接 {place}：{reason}"),
    "through_proxy": (" (through the proxy)", "（经由代理）"),
    "in_no_time": ("no connection in time", "连接超时"),
    "remedy_tls": (
        "if its certificate comes from an authority of your own, name it in vendors.{vendor}.ca_file",
        "若其证书由自有机构签发，请在 vendors.{vendor}.ca_file 中指定",
    ),
    "remedy_name": (
        "check the host in vendors.{vendor}.base_url and the DNS of this host",
        "请检查 vendors.{vendor}.base_url 的主机名与本机 DNS",
    ),
    "remedy_proxy": (
        "check vendors.{vendor}.proxy, and whether it lets this host through",
        "请检查 vendors.{vendor}.proxy 以及代理是否放行",
    ),
    "remedy_connect": (
        "check vendors.{vendor}.base_url and the firewall; is it started?",
        "请检查 vendors.{vendor}.base_url 与防火墙；对方是否已启动？",
    ),
    "no_models_path": (
        "could not check the key: the profile names no list of models",
        "无法检查密钥：档案中没有模型列表地址",
    ),
    "no_models_path_remedy": ("make a call to be sure", "请发起一次调用以确认"),
    "no_answer": ("no answer: {reason}", "没有应答：{reason}"),
    "no_answer_remedy": ("try again, perhaps with a longer --timeout", "请重试，或加大 --timeout"),
    "key_valid": ("the key is valid; answer in {ms} ms", "密钥有效；应答用时 {ms} 毫秒"),
    "key_refused": ("the vendor refuses the key (HTTP {status})", "供应商拒绝该密钥（HTTP {status}）"),
    "key_refused_remedy": (
        "put a valid key into the environment variable that the credential names",
        "请将有效密钥写入该账号所引用的环境变量",
    ),
    "key_limited": (
        "a limit of the account is reached (HTTP 429); answer in {ms} ms",
        "账号已达限额（HTTP 429）；应答用时 {ms} 毫秒",
    ),
    "key_limited_remedy": (
        "who else uses this account? Its limits count for all together",
        "是否有他人使用该账号？限额是共用的",
    ),
    "vendor_trouble": (
        "could not check the key: the vendor is in trouble (HTTP {status})",
        "无法检查密钥：供应商故障（HTTP {status}）",
    ),
    "vendor_trouble_remedy": ("try again later", "请稍后再试"),
    "key_unknown": (
        "could not check the key: HTTP {status} from the list of models",
        "无法检查密钥：模型列表返回 HTTP {status}",
    ),
    "key_unknown_remedy": (
        "check base_url; if it is right, make a call to be sure",
        "请检查 base_url；若无误，请发起一次调用以确认",
    ),
    "clock_of": ("clock ({vendor})", "时钟（{vendor}）"),
    "clock_agrees": ("agrees within 2 s", "相差不超过 2 秒"),
    "clock_ahead": ("this host is {seconds} s ahead", "本机快 {seconds} 秒"),
    "clock_behind": ("this host is {seconds} s behind", "本机慢 {seconds} 秒"),
    "clock_remedy": (
        "set the clock (NTP); day limits would turn at the wrong time",
        "请校准时钟（NTP），否则按天的限额会在错误的时刻重置",
    ),
    "timeout_zero": ("--timeout must be longer than nothing; write for example 5s.", "--timeout 必须大于零，例如 5s。"),
    "doctor_ok": ("All is well.", "一切正常。"),
    "doctor_warned": ("Nothing failed; warnings: {warned}.", "没有失败；警告 {warned} 项。"),
    "doctor_failed": ("Failed: {failed}; warnings: {warned}.", "失败 {failed} 项；警告 {warned} 项。"),
    # status
    "no_pepper_in_memory": (
        "With storage memory:// the gateway's token is known to nobody; set server.pepper or a storage file.",
        "存储为 memory:// 时无人知道网关的令牌；请设置 server.pepper 或存储文件。",
    ),
    "no_pepper_yet": (
        "{path} is not there: no gateway was started from this folder yet. Start it with `dujiang serve`, "
        "or run this where it was started.",
        "{path} 不存在：此目录下尚未启动过网关。请用 `dujiang serve` 启动，或在其启动目录中运行本命令。",
    ),
    "pepper_unreadable": (
        "{path} cannot be read: {reason}; run this as the user who runs the gateway.",
        "无法读取 {path}：{reason}；请以运行网关的用户身份执行。",
    ),
    "no_url": (
        "{url!r} is no http:// or https:// address; correct --url.",
        "{url!r} 不是 http:// 或 https:// 地址；请更正 --url。",
    ),
    "nothing_answers": (
        "Nothing answers at {url} ({reason}). Start the gateway with `dujiang serve`, or name its address with --url.",
        "{url} 没有应答（{reason}）。请用 `dujiang serve` 启动网关，或用 --url 指定其地址。",
    ),
    "token_refused": (
        "The gateway at {url} has another pepper; give this command the configuration it was started with.",
        "{url} 的网关使用另一个 pepper；请使用启动它的那份配置。",
    ),
    "no_status_there": (
        "What answers at {url} has no status (HTTP {status}); is it Dujiang?",
        "{url} 的应答中没有状态（HTTP {status}）；它是 Dujiang 吗？",
    ),
    "not_a_status": (
        "What answers at {url} tells no status this version understands; is it the same version of Dujiang?",
        "{url} 返回的状态无法识别；它与本程序版本一致吗？",
    ),
    "since": ("since {time}", "启动于 {time}"),
    "worker_of": ("worker {worker} of {workers}", "第 {worker} 个工作进程，共 {workers} 个"),
    "draining": ("draining", "正在排空"),
    "now": (
        "in flight {in_flight}   waiting {waiting}   held {held}   connections {connections}   "
        "records {pending} pending, {written} written",
        "进行中 {in_flight}   等待 {waiting}   预留 {held}   连接 {connections}   记录待写 {pending}、已写 {written}",
    ),
    "records_dropped": ("records lost to overload: {count}", "因过载丢失的记录：{count}"),
    "no_limits": ("No limit is configured.", "没有配置限额。"),
    "limit": ("limit", "限额"),
    "bar": ("", ""),
    "used": ("used", "已用"),
    "pending": ("held", "预留"),
    "resets_in": ("empty in", "清空还需"),
    "queue": ("queue", "队列"),
    "realtime": ("realtime", "实时"),
    "interactive": ("interactive", "交互"),
    "standard": ("standard", "标准"),
    "batch": ("batch", "批量"),
    "oldest": ("oldest", "最久"),
    "deployment": ("deployment", "部署"),
    "state": ("state", "状态"),
    "paused": ("paused for {span}", "暂停，还需 {span}"),
    "in_use": ("in use", "使用中"),
    # keys
    "secret_once": (
        "This secret is not shown again; only its hash is kept. Store it now.",
        "此密钥不会再次显示，系统只保存其哈希。请立即保存。",
    ),
    "no_keys": ("There is no key; `dujiang keys create` makes one.", "还没有密钥；用 `dujiang keys create` 创建。"),
    "revoke_in_config": (
        "{id} stands in the configuration; remove it from {config}, the gateway notices.",
        "{id} 写在配置中；请从 {config} 中删除，网关会自动生效。",
    ),
    "no_such_key": (
        "There is no key {id} in use; `dujiang keys list` shows all.",
        "没有使用中的密钥 {id}；用 `dujiang keys list` 查看全部。",
    ),
    "revoked": ("{id} is revoked.", "{id} 已吊销。"),
    "keys_need_file": (
        "Keys are kept in a file, but storage is memory://; set storage.url, for example to sqlite:///dujiang.db.",
        "密钥需要保存在文件中，而存储为 memory://；请将 storage.url 设为例如 sqlite:///dujiang.db。",
    ),
    "no_such_tenant": (
        "There is no tenant {tenant!r} in {config}; there are: {there}.",
        "{config} 中没有租户 {tenant!r}；现有：{there}。",
    ),
    "no_such_project": (
        "The tenant {tenant} has no project {project!r}; it has: {there}.",
        "租户 {tenant} 没有项目 {project!r}；现有：{there}。",
    ),
    "no_such_model": ("There is no model {model!r}; there are: {there}.", "没有模型 {model!r}；现有：{there}。"),
    "expires_now": (
        "--expires must be longer than nothing; write for example 30d.",
        "--expires 必须大于零，例如 30d。",
    ),
    "bad_name": (
        "{name!r} is no name; use letters, digits and . _ : / @ -, at most 128, a letter or digit first.",
        "{name!r} 不是有效名称；可用字母、数字和 . _ : / @ -，至多 128 个字符，以字母或数字开头。",
    ),
    "name_taken": ("The name {name!r} is taken by {id}; choose another.", "名称 {name!r} 已被 {id} 使用；请换一个。"),
    "in_configuration": ("in the configuration", "写在配置中"),
    "key_id": ("id", "编号"),
    "key_tenant": ("tenant", "租户"),
    "key_project": ("project", "项目"),
    "key_name": ("name", "名称"),
    "key_created": ("created", "创建"),
    "key_expires": ("expires", "到期"),
    "key_revoked": ("revoked", "吊销"),
}
