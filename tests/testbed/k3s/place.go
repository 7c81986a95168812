package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// options are what a node is started with.
type options struct {
	role, token, url, name, ip string
	mode                       os.FileMode
}

// Flags of `k3s server` and `k3s agent` that labs may give, and whether they take a value. Those the stand-in does nothing with are
// known all the same: what k3s would refuse is refused here, too.
var flags = map[string]bool{
	"node-ip": true, "node-name": true, "flannel-iface": true, "token": true, "server": true, "node-label": true,
	"node-external-ip": true, "kubelet-arg": true, "kube-proxy-arg": true, "snapshotter": true, "pause-image": true,
	"disable-default-registry-endpoint": false, "debug": false, "resolv-conf": true, "protect-kernel-defaults": false,
}
var serverFlags = map[string]bool{
	"write-kubeconfig-mode": true, "disable": true, "disable-network-policy": false, "disable-cloud-controller": false,
	"disable-helm-controller": false, "flannel-backend": true, "tls-san": true, "advertise-address": true, "bind-address": true,
	"cluster-cidr": true, "service-cidr": true, "embedded-registry": false, "kube-apiserver-arg": true, "cluster-init": false,
	"kube-controller-manager-arg": true, "secrets-encryption": false,
}

func parse(role string, args []string) (map[string]string, error) {
	given := map[string]string{}
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		takes, known := flags[name]
		if !known && role == "server" {
			takes, known = serverFlags[name]
		}
		if !strings.HasPrefix(args[i], "-") || !known {
			return nil, fmt.Errorf("`%s` is no option of `k3s %s` that the stand-in knows", args[i], role)
		}
		if takes && !has {
			if i++; i == len(args) {
				return nil, fmt.Errorf("--%s wants a value", name)
			}
			value = args[i]
		}
		given[name] = value
	}
	return given, nil
}

// place looks at everything k3s reads before it starts.
func place(role string, args []string) (options, error) {
	given, err := parse(role, args)
	if err != nil {
		return options{}, err
	}
	or := func(flag, env string) string {
		if value, ok := given[flag]; ok {
			return value
		}
		return os.Getenv(env)
	}
	at := options{role: role, token: or("token", "K3S_TOKEN"), url: or("server", "K3S_URL"), name: or("node-name", "K3S_NODE_NAME"), mode: 0o600}
	if at.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return at, err
		}
		at.name = strings.ToLower(host)
	}
	if given["write-kubeconfig-mode"] != "" || os.Getenv("K3S_KUBECONFIG_MODE") != "" {
		if _, err := fmt.Sscanf(or("write-kubeconfig-mode", "K3S_KUBECONFIG_MODE"), "%o", &at.mode); err != nil {
			return at, errors.New("--write-kubeconfig-mode is no octal mode")
		}
	}
	for _, check := range []func() error{
		func() error { return itself() },
		func() error { return supervised(role) },
		func() error { return joined(at) },
		func() error { return addressed(&at, given) },
		registries,
		func() error { return left(role) },
	} {
		if err := check(); err != nil {
			return at, err
		}
	}
	return at, nil
}

func itself() error {
	info, err := os.Lstat(program)
	if err != nil {
		return fmt.Errorf("k3s is not where its units and symbolic links look for it: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm() != 0o755 {
		return fmt.Errorf("%s has mode %v, want -rwxr-xr-x", program, info.Mode())
	}
	return nil
}

// supervised: a unit of type notify is one that systemd gave a socket.
func supervised(role string) error {
	if os.Getenv("INVOCATION_ID") != "" && role == "server" && os.Getenv("NOTIFY_SOCKET") == "" {
		return errors.New("systemd gave no NOTIFY_SOCKET: the unit of a server has Type=notify")
	}
	return nil
}

func joined(at options) error {
	if at.token == "" {
		return errors.New("K3S_TOKEN is not set: machines of one lab find each other by it (k3s would make up one)")
	}
	if strings.TrimSpace(at.token) != at.token {
		return errors.New("K3S_TOKEN has blanks around it")
	}
	if at.role == "server" && at.url != "" {
		return fmt.Errorf("K3S_URL=%s would make this server join another one", at.url)
	}
	if at.role == "agent" && !regexp.MustCompile(`^https://[0-9A-Za-z.-]+:[0-9]+/?$`).MatchString(at.url) {
		return fmt.Errorf("K3S_URL=`%s`: want https://ADDRESS:6443", at.url)
	}
	if !regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`).MatchString(at.name) {
		return fmt.Errorf("`%s` can not be the name of a node (RFC 1123)", at.name)
	}
	return nil
}

// addressed: k3s wants a default route, and takes its address from there unless it is told.
func addressed(at *options, given map[string]string) error {
	iface, err := defaultRoute()
	if err != nil {
		return err
	}
	if at.ip = given["node-ip"]; at.ip == "" {
		if ip := os.Getenv("K3S_NODE_IP"); ip != "" {
			return fmt.Errorf("k3s does not read K3S_NODE_IP: say --node-ip=%s (LABIMG_K3S_ARGS)", ip)
		}
		if at.ip, err = addressOf(iface); err != nil {
			return err
		}
		return nil
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, one := range interfaces {
		addresses, _ := one.Addrs()
		for _, address := range addresses {
			if ip, _, err := net.ParseCIDR(address.String()); err != nil || ip.String() != at.ip {
				continue
			}
			if flannel := given["flannel-iface"]; flannel != "" && flannel != one.Name {
				return fmt.Errorf("--flannel-iface=%s, but %s is on %s", flannel, at.ip, one.Name)
			} else if flannel == "" && one.Name != iface {
				fmt.Fprintf(os.Stderr, "warning: k3s would send what pods say to each other through %s (default route), not %s: say --flannel-iface=%s\n", iface, one.Name, one.Name)
			}
			return nil
		}
	}
	return fmt.Errorf("--node-ip=%s is no address of this machine", at.ip)
}

func defaultRoute() (string, error) {
	table, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(table), "\n")[1:] {
		if fields := strings.Fields(line); len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			return fields[0], nil
		}
	}
	return "", errors.New("there is no default route: k3s does not start without one")
}

func addressOf(name string) (string, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return "", err
	}
	addresses, _ := iface.Addrs()
	for _, address := range addresses {
		if ip, _, err := net.ParseCIDR(address.String()); err == nil && ip.To4() != nil {
			return ip.String(), nil
		}
	}
	return "", fmt.Errorf("%s, where the default route leads, has no IPv4 address", name)
}

// registries.yaml need not be there; what is in it must be of its form.
func registries() error {
	const path = "/etc/rancher/k3s/registries.yaml"
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var file struct {
		Mirrors map[string]struct {
			Endpoint []string          `yaml:"endpoint"`
			Rewrite  map[string]string `yaml:"rewrite"`
		} `yaml:"mirrors"`
		Configs map[string]struct {
			Auth map[string]string `yaml:"auth"`
			TLS  map[string]any    `yaml:"tls"`
		} `yaml:"configs"`
	}
	reader := yaml.NewDecoder(strings.NewReader(string(text)))
	reader.KnownFields(true)
	if err := reader.Decode(&file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for host, mirror := range file.Mirrors {
		for pattern := range mirror.Rewrite {
			if _, err := regexp.Compile(pattern); err != nil {
				return fmt.Errorf("%s: mirror %s: %w", path, host, err)
			}
		}
		for _, url := range mirror.Endpoint {
			if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
				return fmt.Errorf("%s: mirror %s: `%s` is no URL", path, host, url)
			}
		}
	}
	return nil
}

// started is there once the stand-in got as far as to make what is the machine's own.
const started = data + "/stand-in.started"

// left: what a machine makes for itself must not come with its disk, nor must a worker have what only a server reads.
func left(role string) error {
	if role == "agent" {
		if found, _ := filepath.Glob(data + "/server/manifests/*"); len(found) > 0 {
			return fmt.Errorf("%s: a worker applies no manifests", found[0])
		}
	}
	if _, err := os.Stat(started); err == nil {
		return nil
	}
	for _, path := range []string{data + "/server/tls", data + "/server/cred", data + "/server/db", data + "/server/token", "/etc/rancher/node/password", "/etc/rancher/k3s/k3s.yaml"} {
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%s came with the disk: every machine of the lab, and every lab, would share it", path)
		}
	}
	return nil
}
