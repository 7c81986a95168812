package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"
)

const bridge = "cni0"

// machine is what runs on this node.
type machine struct {
	engine containerd
	self   nodeState
	pods   map[string]*running
	ports  map[string]*forwarder
	wired  map[string]bool
	hosts  string
	given  int
}

// running is a pod of this node.
type running struct {
	id, ns string
	spec   podSpec
	report report
	until  time.Time
}

// clean takes away what an earlier start left.
func (m *machine) clean() error {
	m.wired = map[string]bool{}
	ids, err := m.engine.ctr("containers", "ls", "-q")
	if err != nil {
		return err
	}
	for _, id := range strings.Fields(ids) {
		m.remove(id)
	}
	spaces, _ := filepath.Glob("/var/run/netns/k3s-*")
	for _, path := range spaces {
		_ = must("ip", "netns", "del", filepath.Base(path))
	}
	_ = must("ip", "link", "del", bridge)
	return nil
}

func (m *machine) remove(id string) {
	_, _ = m.engine.ctr("tasks", "kill", "-s", "SIGKILL", id)
	_, _ = m.engine.ctr("tasks", "rm", "-f", id)
	_, _ = m.engine.ctr("containers", "rm", id)
}

func (m *machine) says() joining {
	said := joining{Node: m.self, Pods: map[string]report{}}
	for name, pod := range m.pods {
		said.Pods[name] = pod.report
	}
	return said
}

// follow makes this node what it is told to be.
func (m *machine) follow(told view) error {
	for _, node := range told.Nodes {
		if node.Name == m.self.Name {
			m.self.Number = node.Number
		}
	}
	if err := m.wire(told.Nodes); err != nil {
		return err
	}
	if err := m.name(told.Services); err != nil {
		return err
	}
	wanted := map[string]podState{}
	for _, pod := range told.Pods {
		if pod.Node == m.self.Name {
			wanted[pod.Namespace+"/"+pod.Name] = pod
		}
	}
	for name, pod := range m.pods {
		if _, ok := wanted[name]; !ok {
			m.remove(pod.id)
			_ = must("ip", "netns", "del", pod.ns)
			delete(m.pods, name)
		}
	}
	tasks, err := m.engine.ctr("tasks", "ls")
	if err != nil {
		return err
	}
	for name, pod := range wanted {
		if err := m.keep(name, pod, told, tasks); err != nil {
			return err
		}
	}
	return m.forward(told)
}

// wire makes the bridge of this node's pods, and routes to those of the others.
func (m *machine) wire(nodes []nodeState) error {
	if !m.wired[""] {
		for _, command := range [][]string{
			{"ip", "link", "add", bridge, "type", "bridge"},
			{"ip", "addr", "add", m.self.subnet(1) + "/24", "dev", bridge},
			{"ip", "link", "set", bridge, "up"},
		} {
			if err := must(command...); err != nil {
				return err
			}
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			return err
		}
		m.wired[""] = true
	}
	for _, node := range nodes {
		if node.Name != m.self.Name && !m.wired[node.Name] {
			if err := must("ip", "route", "replace", node.subnet(0)+"/24", "via", node.IP); err != nil {
				return err
			}
			m.wired[node.Name] = true
		}
	}
	return nil
}

// name gives services their addresses on this node, and pods a file with their names.
func (m *machine) name(services []serviceState) error {
	if m.hosts != "" {
		return nil
	}
	text := "127.0.0.1 localhost\n"
	for _, one := range services {
		if err := must("ip", "addr", "replace", one.IP+"/32", "dev", bridge); err != nil {
			return err
		}
		full := one.Name + "." + one.Namespace
		text += fmt.Sprintf("%s %s %s.svc %s.svc.cluster.local\n", one.IP, full, full, full)
	}
	m.hosts = text
	return nil
}

// hostsOf adds the short names of a namespace's services.
func (m *machine) hostsOf(namespace string, services []serviceState) string {
	text := m.hosts
	for _, one := range services {
		if one.Namespace == namespace {
			text += one.IP + " " + one.Name + "\n"
		}
	}
	return text
}

// keep sees to it that a pod runs, and looks whether it is ready.
func (m *machine) keep(name string, pod podState, told view, tasks string) error {
	its := m.pods[name]
	if its == nil {
		its = &running{id: pod.Namespace + "_" + pod.Name, ns: fmt.Sprintf("k3s-%d", m.given), spec: pod.Spec, report: report{Phase: "ContainerCreating", IP: m.self.subnet(10 + m.given)}}
		m.given++
		m.pods[name] = its
		if err := m.space(its, m.given); err != nil {
			return err
		}
	} else if regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(its.id) + `\s+\d+\s+RUNNING`).MatchString(tasks) {
		its.report.Phase, its.report.Ready = "Running", probed(its)
		return nil
	} else if time.Now().Before(its.until) {
		return nil
	} else if its.report.Phase == "Running" {
		its.report.Restarts++
		log.Printf("pod %s ended: see /var/log/pods/%s", name, its.id)
	}
	its.report.Ready, its.until = false, time.Now().Add(10*time.Second)
	if image := pod.Spec.Containers[0].Image; !m.has(image) {
		its.report.Phase = "ImagePullBackOff"
		log.Printf("pod %s: image %s is not on this node, and nothing can be pulled", name, image)
		return nil
	}
	m.remove(its.id)
	if err := m.run(its, pod, told); err != nil {
		its.report.Phase = "RunContainerError"
		log.Printf("pod %s: %v", name, err)
	}
	return nil
}

func (m *machine) has(image string) bool {
	names, err := m.engine.ctr("images", "ls", "-q")
	for _, name := range strings.Fields(names) {
		if err == nil && name == normal(image) {
			return true
		}
	}
	return false
}

// space is a network namespace of its own, on the bridge.
func (m *machine) space(its *running, number int) error {
	outer, inner := fmt.Sprintf("veth%d", number), fmt.Sprintf("vpod%d", number)
	for _, command := range [][]string{
		{"ip", "netns", "add", its.ns},
		{"ip", "link", "add", outer, "type", "veth", "peer", "name", inner},
		{"ip", "link", "set", outer, "master", bridge, "up"},
		{"ip", "link", "set", inner, "netns", its.ns},
		{"ip", "-n", its.ns, "link", "set", inner, "name", "eth0"},
		{"ip", "-n", its.ns, "addr", "add", its.report.IP + "/24", "dev", "eth0"},
		{"ip", "-n", its.ns, "link", "set", "eth0", "up"},
		{"ip", "-n", its.ns, "link", "set", "lo", "up"},
		{"ip", "-n", its.ns, "route", "add", "default", "via", m.self.subnet(1)},
	} {
		if err := must(command...); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) run(its *running, pod podState, told view) error {
	box, folder := pod.Spec.Containers[0], run+"/stand-in/"+its.id
	logs := "/var/log/pods/" + its.id
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	args := []string{"run", "-d", "--with-ns", "network:/var/run/netns/" + its.ns, "--log-uri", "file://" + logs + "/" + box.Name + ".log"}
	env := []string{"KUBERNETES_SERVICE_HOST=10.43.0.1"}
	for _, one := range box.Env {
		env = append(env, one.Name+"="+one.Value)
	}
	for _, one := range env {
		args = append(args, "--env", one)
	}
	files := map[string]map[string]string{"/etc/hosts": {"": m.hostsOf(pod.Namespace, told.Services)}, "/etc/resolv.conf": {"": ""}}
	mounts := map[string]string{"/etc/hosts": "rbind:ro", "/etc/resolv.conf": "rbind:ro"}
	for _, mount := range box.VolumeMounts {
		for _, volume := range pod.Spec.Volumes {
			switch {
			case volume.Name != mount.Name:
			case volume.EmptyDir != nil:
				files[mount.MountPath], mounts[mount.MountPath] = map[string]string{}, "rbind:rw"
			case mount.SubPath != "":
				text := told.Config[pod.Namespace+"/"+volume.ConfigMap.Name][mount.SubPath]
				files[mount.MountPath], mounts[mount.MountPath] = map[string]string{"": text}, "rbind:ro"
			default:
				text, ok := told.Config[pod.Namespace+"/"+volume.ConfigMap.Name]
				if !ok {
					return fmt.Errorf("there is no ConfigMap %s", volume.ConfigMap.Name)
				}
				files[mount.MountPath], mounts[mount.MountPath] = text, "rbind:ro"
			}
		}
	}
	for at, texts := range files {
		from := folder + "/" + strings.ReplaceAll(strings.Trim(at, "/"), "/", "_")
		if err := put(from, texts); err != nil {
			return err
		}
		args = append(args, "--mount", fmt.Sprintf("type=bind,src=%s,dst=%s,options=%s", from, at, mounts[at]))
	}
	command, err := m.command(normal(box.Image), box.Command, box.Args)
	if err != nil {
		return err
	}
	_, err = m.engine.ctr(append(append(args, normal(box.Image), its.id), command...)...)
	return err
}

// command is what a container runs: its `command` stands for the image's entry point and command, its `args` for the latter.
func (m *machine) command(image string, command, args []string) ([]string, error) {
	if len(command) > 0 {
		return append(append([]string{}, command...), args...), nil
	}
	if len(args) == 0 {
		return nil, nil
	}
	line, err := m.engine.ctr("images", "ls", "name=="+image)
	if err != nil {
		return nil, err
	}
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(line)
	var about struct {
		Manifests []struct{ Digest string }
		Config    json.RawMessage
	}
	for depth := 0; depth < 3 && len(about.Config) == 0; depth++ {
		about.Manifests = nil
		text, err := m.engine.ctr("content", "get", digest)
		if err == nil {
			err = json.Unmarshal([]byte(text), &about)
		}
		if err != nil {
			return nil, err
		}
		if len(about.Manifests) > 0 {
			digest = about.Manifests[0].Digest
		}
	}
	var config struct {
		Digest string
		Config struct{ Entrypoint []string }
	}
	if err := json.Unmarshal(about.Config, &config); err != nil {
		return nil, err
	}
	text, err := m.engine.ctr("content", "get", config.Digest)
	if err == nil {
		err = json.Unmarshal([]byte(text), &config)
	}
	return append(append([]string{}, config.Config.Entrypoint...), args...), err
}

// put writes a file (its name is empty) or a folder of them.
func put(at string, texts map[string]string) error {
	if text, one := texts[""]; one {
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		return os.WriteFile(at, []byte(text), 0o644)
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	_ = os.Chmod(at, 0o777) // an emptyDir is for whoever runs in the pod
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func probed(its *running) bool {
	look := its.spec.Containers[0].ReadinessProbe
	client := http.Client{Timeout: time.Second}
	switch {
	case look.HTTPGet != nil:
		answer, err := client.Get(fmt.Sprintf("http://%s:%d%s", its.report.IP, portOf(its.spec, look.HTTPGet.Port), look.HTTPGet.Path))
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode < 400
	case look.TCPSocket != nil:
		to, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", its.report.IP, portOf(its.spec, look.TCPSocket.Port)), time.Second)
		if err != nil {
			return false
		}
		to.Close()
	}
	return true
}

// behind lists the ready pods of a service, as address and port.
func behind(service serviceState, port servicePort, pods []podState) []string {
	target := port.TargetPort
	if target == nil {
		target = port.Port
	}
	var all []string
	for _, pod := range pods {
		if pod.Namespace == service.Namespace && pod.Report.Ready && len(service.Selector) > 0 && selects(service.Selector, pod.Labels) {
			all = append(all, fmt.Sprintf("%s:%d", pod.Report.IP, portOf(pod.Spec, target)))
		}
	}
	sort.Strings(all)
	return all
}
