package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/agent"
	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/device"
	"github.com/hallagent/hallagent/device/serial"
	"github.com/hallagent/hallagent/sync/lan"
)

type devicesCommand struct {
	JSON bool `help:"Print JSON." name:"json"`
}

func (devicesCommand) Help() string {
	return "No port is opened: what is connected does not notice. Ports that a line of the configuration names are " +
		"marked; for the others, entries to paste into it follow the list. Run it as root to see which programs of " +
		"other users hold a port.\n\nExamples:\n  hallagent devices\n  hallagent devices --json"
}

// listed is a port with the line of the configuration that names it, if any.
type listed struct {
	serial.Port
	URL    string `json:"url"` // of a line, without options
	UsedBy string `json:"used_by,omitempty"`
}

func (d devicesCommand) Run(ctx context.Context, c *commands, s streams) error {
	cfg, _, err := config.Load(c.Config) // one that is wrong names ports all the same
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(s.err, "hallagent: %v: ports it names are not marked\n", err)
	}
	found, err := serial.Ports()
	if err != nil {
		return err
	}
	ports := []listed{}
	for _, p := range found {
		ports = append(ports, listed{p, p.URL(), usedBy(p, cfg)})
	}
	if d.JSON {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"ports": ports, "strangers": strangers(ctx, cfg)})
	}
	_, err = io.WriteString(s.out, printPorts(ports)+stanza(ports, cfg)+printStrangers(strangers(ctx, cfg)))
	return err
}

// strangers asks the agent, if one runs, which devices speak to it that are not
// in its configuration.
func strangers(ctx context.Context, cfg config.Config) []lan.Stranger {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/hall", nil)
	if err != nil {
		return nil
	}
	answer, err := agent.ControlClient(cfg.Data).Do(req)
	if err != nil {
		return nil // none runs, or not for this user
	}
	defer answer.Body.Close()
	var h lan.Hall
	if json.NewDecoder(answer.Body).Decode(&h) != nil {
		return nil
	}
	return h.Strangers
}

func printStrangers(all []lan.Stranger) string {
	if len(all) == 0 {
		return ""
	}
	b := "\n未配置但正在上报的设备 / devices that speak to the agent and are not configured:\n"
	for _, x := range all {
		b += fmt.Sprintf("  %s: %s\n", x.Line, x.Unit)
	}
	return b
}

// usedBy gives the id of the line that names a port.
func usedBy(p serial.Port, cfg config.Config) string {
	for _, l := range cfg.Lines {
		if (l.URL.Scheme == device.SchemeSerial || l.URL.Scheme == device.SchemePulse) && p.Is(l.URL.Path) {
			return l.ID
		}
	}
	return ""
}

const noPorts = `没有找到串口。/ There is no serial port.

请检查 / look for this:
  - 读卡器或转换器是否已插好并通电？换一根线或另一个插口再运行本命令。
    Is the reader or adapter plugged in and powered? Try another cable or socket, then run this again.
  - Linux: dmesg | tail 显示系统如何识别刚插入的设备。
    Linux: dmesg | tail shows what the system makes of what was just plugged in.
  - Windows: 设备管理器的“端口”中应有 COM 号；有叹号表示缺少驱动。
    Windows: the device manager lists it under Ports; a mark on it means that its driver is missing.
  - 在虚拟机或容器中运行时，须把设备交给它。
    In a virtual machine or a container the device has to be handed to it.
  - 有些读卡器只有 USB（HID）接口，不是串口，本程序不支持。
    Some readers are USB (HID) only and no serial port; this program does not support them.
  - 经网络的设备（tcp://）不在此列。/ Devices on the network (tcp://) are not listed here.
`

func printPorts(ports []listed) string {
	if len(ports) == 0 {
		return noPorts
	}
	var b strings.Builder
	for _, p := range ports {
		fmt.Fprintln(&b, p.Name)
		for _, row := range [][2]string{
			{"设备文件 device file", p.Path},
			{"别名 other names", otherNames(p.Port)},
			{"USB", usb(p.Port)},
			{"驱动 driver", p.Driver},
			{"占用 held by", heldBy(p.Port)},
			{"权限 may be opened", permission(p.Port)},
			{"配置 configuration", used(p)},
		} {
			if row[1] != "" {
				fmt.Fprintf(&b, "  %s: %s\n", row[0], row[1])
			}
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

func otherNames(p serial.Port) string {
	var others []string
	for _, l := range p.Links {
		if l != p.Name {
			others = append(others, l)
		}
	}
	return strings.Join(others, ", ")
}

func usb(p serial.Port) string {
	if p.VendorID == "" {
		return ""
	}
	text := p.VendorID + ":" + p.ProductID
	if name := strings.TrimSpace(p.Manufacturer + " " + p.Product); name != "" {
		text += ", " + name
	}
	if p.Serial == "" {
		return text + ", 无序列号，名称随插口而定 / without a serial number: the name is that of the socket"
	}
	return text + ", 序列号 serial number " + p.Serial
}

func heldBy(p serial.Port) string {
	var who []string
	for _, h := range p.Holders {
		w := fmt.Sprintf("%s (%d)", h.Program, h.PID)
		if h.Locked {
			w += ", 已加锁 locked"
		}
		who = append(who, w)
	}
	switch {
	case p.Unseen && runtime.GOOS != "linux":
		who = append(who, "未知 / not known")
	case p.Unseen && len(who) == 0:
		who = append(who, "未知，请以 root 运行 / not known, run as root")
	case len(who) == 0:
		who = append(who, "无 / nobody")
	}
	return strings.Join(who, "; ")
}

func permission(p serial.Port) string {
	if !p.Denied {
		return "可以 / yes"
	}
	_, hint := device.Cause(fs.ErrPermission)
	return "不可以 / no: " + hint
}

func used(p listed) string {
	if p.UsedBy == "" {
		return ""
	}
	return "已用于线路 / used by line " + p.UsedBy
}

// stanza is what to paste into the configuration for the ports it does not
// name: a reader on each, with the next numbers that are free. A port that is no
// USB adapter is a comment where there are adapters, since it is seldom meant.
func stanza(ports []listed, cfg config.Config) string {
	taken, usb := map[string]bool{}, false
	for _, l := range cfg.Lines {
		taken[l.ID] = true
	}
	for _, r := range cfg.Readers {
		taken[r.ID], taken["window "+r.Window] = true, true
	}
	for _, k := range cfg.Counters {
		taken[k.ID] = true
	}
	var free []listed
	for _, p := range ports {
		if p.UsedBy == "" {
			free = append(free, p)
			usb = usb || p.VendorID != ""
		}
	}
	if len(free) == 0 {
		return ""
	}
	lines, readers, n := "lines:\n", "readers:\n", 0
	for _, p := range free {
		var number string
		for number == "" || taken["window-"+number] || taken["rd-"+number] || taken["window "+number] {
			n++
			number = fmt.Sprintf("%02d", n)
		}
		comment := ""
		if usb && p.VendorID == "" {
			comment = "# "
		}
		lines += fmt.Sprintf("  %s- {id: window-%s, url: %s}\n", comment, number, strconv.Quote(p.URL+"?baud=auto"))
		readers += fmt.Sprintf("  %s- {id: rd-%s, kind: sam, line: window-%s, window: %q}\n", comment, number, number, number)
	}
	return "# 粘贴到配置文件的同名项下，并改为实际窗口号\n" +
		"# Paste below the keys of the same name and write the windows' own numbers.\n" + lines + readers
}
