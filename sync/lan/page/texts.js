// Every text a person reads on the page, in both languages.
export const texts = {
  "zh-CN": {
    occupancy: "厅内人数", doors: "出入口", door: "门", in: "进", out: "出", last: "最近读数", state: "状态",
    readers: "身份证阅读器", window: "窗口", reader: "阅读器", scans: "已读卡", devices: "线路与连接", what: "名称", where: "位置",
    people: "人", unknownPeople: "暂无可靠数字", open: "开放中", closed: "已关闭", hoursToday: "今日开放 ", closedToday: "今日不开放",
    range: (a, b, c) => `约 ${a}–${b} 人，舒适容量 ${c} 人`, gauge: (p, c) => `厅内约 ${p} 人，舒适容量 ${c} 人`, noGauge: "没有可靠数字",
    day: (i, o, d) => `${d}：进 ${i} 人次，出 ${o} 人次`, updated: (t) => `${t} 更新`, never: "尚无", seconds: (n) => `${n} 秒前`, minutes: (n) => `${n} 分钟前`,
    stale: "数据已过时", offline: "与本厅网关的连接已断开，正在重新连接。", about: (v, c) => `hallagent ${v} · 时钟${c}`,
    broker: "消息服务器", backlog: (n) => `待确认 ${n} 条`, noBacklog: "无积压", visits: "客流记录", listen: "网页地址",
    level: { idle: "空闲", moderate: "适中", busy: "较忙", crowded: "拥挤" },
    trust: { good: "数字可靠", approximate: "估算", unknown: "不可靠" },
    clock: { synced: "已同步", unsynced: "未同步", stepped: "曾跳变" },
    reason: {
      not_read: "有出入口尚未读到数据", read_lost: "有出入口超过 45 分钟没有读数", read_late: "有出入口超过 15 分钟没有读数",
      no_door: "没有配置访客出入口", guessed: "有计数器复位或跳变，部分人次为推算", uncounted: "尚未人工计数校准", drift: "误差已累积，请人工清点一次",
    },
    states: { online: "正常", offline: "未连接", waiting: "未连接", wedged: "无应答", disabled: "已停用", connected: "已连接", store: "无法写入", late: "读数已晚", lost: "没有读数" },
    code: {
      missing: "端口不存在：请检查线缆是否插好", permission: "没有端口权限", busy: "端口被其他程序占用", refused: "对方拒绝连接", unreachable: "网络不通",
      timeout: "连接超时", unplugged: "线缆已拔出", silent: "设备不应答：请检查电源、波特率和站号", closed: "对方断开了连接", io: "线路读写出错",
      bad_credentials: "消息服务器拒绝了用户名或密码", tls: "加密连接失败：请检查证书", subscribe_refused: "消息服务器拒绝了订阅", unauthorised: "读卡模块未授权",
    },
  },
  en: {
    occupancy: "People in the hall", doors: "Doors", door: "Door", in: "In", out: "Out", last: "Last reading", state: "State",
    readers: "ID-card readers", window: "Window", reader: "Reader", scans: "Cards read", devices: "Lines and connections", what: "Name", where: "Where",
    people: "people", unknownPeople: "No reliable number", open: "Open", closed: "Closed", hoursToday: "Open today ", closedToday: "Closed today",
    range: (a, b, c) => `About ${a}–${b}, comfortable capacity ${c}`, gauge: (p, c) => `About ${p} people, comfortable capacity ${c}`, noGauge: "No reliable number",
    day: (i, o, d) => `${d}: ${i} passes in, ${o} passes out`, updated: (t) => `Updated ${t}`, never: "none yet", seconds: (n) => `${n} s ago`, minutes: (n) => `${n} min ago`,
    stale: "Out of date", offline: "The connection to the hall's gateway is lost; trying again.", about: (v, c) => `hallagent ${v} · clock ${c}`,
    broker: "Broker", backlog: (n) => `${n} waiting for acknowledgement`, noBacklog: "no backlog", visits: "Visits", listen: "Page address",
    level: { idle: "Idle", moderate: "Moderate", busy: "Busy", crowded: "Crowded" },
    trust: { good: "Reliable", approximate: "Estimate", unknown: "Not reliable" },
    clock: { synced: "synchronised", unsynced: "not synchronised", stepped: "was stepped" },
    reason: {
      not_read: "a door has not been read yet", read_lost: "a door has not been read for 45 minutes", read_late: "a door has not been read for 15 minutes",
      no_door: "no visitors' door is configured", guessed: "a counter was reset or leapt, some passes are guessed", uncounted: "not calibrated by a hand count", drift: "errors have added up: count the people once",
    },
    states: { online: "Working", offline: "Not connected", waiting: "Not connected", wedged: "Not answering", disabled: "Disabled", connected: "Connected", store: "Cannot write", late: "Reading is late", lost: "No reading" },
    code: {
      missing: "The port is not there: check the cable", permission: "No permission for the port", busy: "Another program holds the port", refused: "The other side refuses the connection", unreachable: "The network does not reach it",
      timeout: "The connection timed out", unplugged: "The cable was pulled", silent: "The device does not answer: check power, baud rate and station", closed: "The other side closed the connection", io: "Reading or writing the line went wrong",
      bad_credentials: "The broker refused the user or password", tls: "Encryption did not work: check the certificate", subscribe_refused: "The broker refused a subscription", unauthorised: "The reader's module is not authorised",
    },
  },
};
