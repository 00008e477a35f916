"""The help of the command line in Chinese, by its English; and what the framework says of a wrong command line."""

from __future__ import annotations

from typing import Final

HELP: Final[dict[str, str]] = {
    # What the framework writes
    "Usage": "用法",
    "Options": "选项",
    "Arguments": "参数",
    "Commands": "命令",
    "default": "默认",
    "required": "必填",
    "Show this message and exit.": "显示本说明。",
    "Install completion for the current shell.": "为当前 shell 安装命令补全。",
    "Show completion for the current shell, to copy it or customize the installation.": (
        "显示命令补全脚本，供复制或自行安装。"
    ),
    # dujiang
    "Stand between a product and the AI APIs it depends on.": "位于产品与其所依赖的 AI 接口之间。",
    "Told by DUJIANG_LANGUAGE or LANG unless given.": "语言；默认取自 DUJIANG_LANGUAGE 或 LANG。",
    "Print the version and end.": "显示版本号。",
    # What several verbs share
    "The configuration.": "配置文件。",
    "The configuration of the gateway.": "网关的配置文件。",
    # demo
    "Play ten minutes of chat traffic at a strict vendor twice: straight, and through Dujiang.": (
        "将十分钟的对话流量对严格的供应商播放两次：直连，以及经由 Dujiang。"
    ),
    "Replay a recorded trace (Azure, Mooncake, ServeGen, plain CSV; gzipped or not).": (
        "重放录制的流量（Azure、Mooncake、ServeGen 或普通 CSV，可为 gzip）。"
    ),
    "Decides what is made up, and which calls are kept.": "随机种子，决定生成的内容与保留的调用。",
    "How many times as fast as the traffic; 20 unless told.": "相对实际流量的加速倍数，默认 20。",
    "Folder for the chart; a temporary one unless told.": "存放图表的目录，默认为临时目录。",
    "Also write the figures to this file.": "同时将数据写入此文件。",
    "Whether to open the chart.": "是否打开图表。",
    # init
    "Write a commented configuration to start from.": "写一份带注释的初始配置。",
    "Keys stay in the environment; the file names the variables. Only you can read it.": (
        "密钥留在环境变量中，文件只写变量名；仅您本人可读。"
    ),
    "The file to write.": "要写入的文件。",
    "The vendor's profile, a name or a file of your own; openai unless told.": "供应商档案的名称或文件，默认 openai。",
    "For `dujiang simulate vendor`: no account, no network.": "用于 `dujiang simulate vendor`：无需账号与网络。",
    "Write over a file that is there.": "覆盖已有的文件。",
    # validate
    "Name every mistake in a configuration, each with its remedy.": "逐条指出配置中的错误及其改法。",
    # doctor
    "Check vendors, keys, clocks, storage and port of a configuration.": "检查配置中的供应商、密钥、时钟、存储与端口。",
    "It asks each vendor for its list of models, which costs nothing, and never prints a key.": (
        "它向每个供应商查询模型列表（不产生费用），从不打印密钥。"
    ),
    "How long a vendor may take to connect, and to answer.": "等待供应商连接与应答的最长时间。",
    # serve
    "Serve calls until SIGTERM or Ctrl-C.": "提供服务，直到 SIGTERM 或 Ctrl-C。",
    "The configuration; it is loaded again when it changes.": "配置文件；改动后自动重新加载。",
    # status
    "Show limits, queues and deployments of the gateway that runs.": "显示运行中网关的限额、队列与部署。",
    "It is refreshed every second until Ctrl-C.": "每秒刷新，直到 Ctrl-C。",
    "Where it is; as the configuration says unless told.": "网关地址，默认取自配置。",
    "Print once and end; always so in a pipe.": "只打印一次；在管道中总是如此。",
    "Print what the gateway tells, as JSON, once.": "以 JSON 打印一次网关的状态。",
    # keys
    "Make, list and revoke the keys that tenants call with.": "创建、列出、吊销租户使用的密钥。",
    "Make a key and print its secret, which is not shown again.": "创建密钥并打印一次，此后不再显示。",
    "The tenant it speaks for.": "所属租户。",
    "The tenant's project.": "租户的项目。",
    "What people call it; its id unless told.": "名称，默认为其编号。",
    "How long it is valid, like 30d or 12h; for ever unless told.": "有效期，如 30d、12h；默认不过期。",
    "Models it may use, like a,b; those of the plan unless told.": "可用的模型，如 a,b；默认为套餐内的模型。",
    "Print JSON.": "以 JSON 打印。",
    "List all keys, never a secret.": "列出全部密钥的信息，从不显示密钥本身。",
    "Revoke a key; calls with it are refused within a second or two.": "吊销密钥；一两秒内开始拒绝其调用。",
    "The id `dujiang keys list` shows.": "`dujiang keys list` 显示的编号。",
    # simulate
    "Simulate what an application depends on.": "模拟应用所依赖的服务。",
    "Serve a strict simulated vendor until Ctrl-C.": "运行严格的模拟供应商，直到 Ctrl-C。",
    "YAML file with the whole description.": "完整描述的 YAML 文件。",
    "openai or anthropic; both unless told.": "openai 或 anthropic，默认两者都提供。",
    "Address to listen on.": "监听地址。",
    "Port to listen on; 0 takes a free one.": "监听端口；0 表示任选空闲端口。",
    "A limit, like requests/60s=60:sliding or concurrency=5.": ("限额，如 requests/60s=60:sliding 或 concurrency=5。"),
    "A fault, like storm,from=30s,until=60s or error,status=529,requests=5-9.": (
        "故障，如 storm,from=30s,until=60s 或 error,status=529,requests=5-9。"
    ),
    "A key to accept; any key unless told.": "接受的密钥，默认任意。",
    "A model to serve; any model unless told.": "提供的模型，默认任意。",
    "Seconds to the first token: a constant, or mean/p95 like 0.4/1.2.": (
        "首个词元的秒数：常数，或均值/p95，如 0.4/1.2。"
    ),
    "Tokens a second, alike; 0 is all at once.": "每秒词元数，写法同上；0 表示一次给出。",
    "Length of an answer in tokens, alike.": "回答的词元数，写法同上。",
    "continue or stop generating.": "continue 或 stop：断开后继续或停止生成。",
    "Send no rate-limit headers.": "是否不发送限额响应头。",
    "Whether refused requests count.": "被拒绝的请求是否计数。",
    "Seed of every draw.": "全部随机数的种子。",
    "How many times faster than real time.": "相对真实时间的加速倍数。",
    "Print the whole description and end.": "打印完整描述。",
}

ERRORS: Final[list[tuple[str, str]]] = [
    (r"No such option: (\S+)", r"没有选项 \1。"),
    (r"No such option: (\S+) \(Possible options: (.*)\)", r"没有选项 \1（相近的有：\2）。"),
    (r"No such command (.*)\. Did you mean (.*)\?", r"没有命令 \1；您是否要 \2？"),
    (r"No such command (.*)\.", r"没有命令 \1。"),
    (r"Missing command\.", r"缺少命令。"),
    (r"Missing argument (\S+)\.", r"缺少参数 \1。"),
    (r"Missing option (.*)\.", r"缺少选项 \1。"),
    (r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", r"多余的参数（\1）。"),
    (r"Option (\S+) requires an argument\.", r"选项 \1 需要一个值。"),
    (r"Option (\S+) does not take a value\.", r"选项 \1 不带值。"),
    (r"Invalid value for (.*?): (.*)", r"\1 的值无效：\2"),
]
