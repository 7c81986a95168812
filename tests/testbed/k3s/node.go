package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A server's certificate is its own; the token is what nodes know it by.
var client = http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// start runs a server or an agent until it is told to stop.
func start(role string, args []string) error {
	if os.Geteuid() != 0 {
		return errors.New("wants root")
	}
	at, err := place(role, args)
	if err != nil {
		return err
	}
	objects, err := manifests()
	if err != nil {
		return err
	}
	notify := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET") // containerd would say that it is ready, in our place
	engine, err := startContainerd()
	if err != nil {
		return err
	}
	if err := importAll(engine); err != nil {
		return err
	}
	names, err := engine.ctr("images", "ls", "-q")
	if err != nil {
		return err
	}
	if !strings.Contains(names, "docker.io/rancher/mirrored-pause:3.6") {
		return fmt.Errorf("there is no rancher/mirrored-pause:3.6: the archive of k3s's own images (k3s-airgap-images-amd64.tar.zst) is not in %s", images)
	}
	password, err := own()
	if err != nil {
		return err
	}
	me := machine{engine: engine, self: nodeState{Name: at.name, IP: at.ip, Role: role, Password: password}, pods: map[string]*running{}, ports: map[string]*forwarder{}}
	if err := me.clean(); err != nil {
		return err
	}
	tell := func(said joining) (view, error) { return join(at, said) }
	if role == "server" {
		c, err := serve(at, objects)
		if err != nil {
			return err
		}
		tell = c.sync
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	for first := true; ; first = false {
		told, err := tell(me.says())
		var refused refusal
		switch {
		case errors.As(err, &refused):
			return err
		case err != nil:
			log.Printf("%v", err)
			first = true
		default:
			err = me.follow(told)
			if err != nil {
				return err
			}
		}
		if first && err == nil {
			if err := ready(notify); err != nil {
				return err
			}
			log.Printf("%s is up at %s", at.name, at.ip)
		}
		select {
		case <-stop:
			return nil // pods go on, as with k3s; containerd ends with this process
		case <-time.After(time.Second):
		}
	}
}

type refusal struct{ said string }

func (r refusal) Error() string { return r.said }

func join(at options, said joining) (view, error) {
	var told view
	body, err := json.Marshal(said)
	if err != nil {
		return told, err
	}
	request, err := http.NewRequest("POST", strings.TrimRight(at.url, "/")+syncPath, bytes.NewReader(body))
	if err != nil {
		return told, err
	}
	request.SetBasicAuth("node", at.token)
	answer, err := client.Do(request)
	if err != nil {
		return told, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		return told, refusal{fmt.Sprintf("%s refused this node: %s", at.url, strings.TrimSpace(string(text)))}
	}
	if answer.StatusCode != http.StatusOK {
		return told, fmt.Errorf("%s: %s", at.url, answer.Status)
	}
	return told, json.NewDecoder(answer.Body).Decode(&told)
}

// own is the node's password, made at its first start: another machine of the same name does not have it.
func own() (string, error) {
	const path = "/etc/rancher/node/password"
	if text, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	text := hex.EncodeToString(secret)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(text+"\n"), 0o600)
	}
	if err == nil {
		err = os.WriteFile(started, nil, 0o600)
	}
	return text, err
}

// ready tells systemd (sd_notify(3)) at this socket, where it asked.
func ready(path string) error {
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	to, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer to.Close()
	_, err = to.Write([]byte("READY=1\n"))
	return err
}

func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

// startChild starts a program from a thread that lives as long as this process: a child's parent is a thread.
func startChild(command *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- command.Start()
		if command.Process != nil {
			log.Fatalf("%s ended: %v", command.Path, command.Wait())
		}
	}()
	return <-result
}

// must runs a program of the machine.
func must(args ...string) error {
	if said, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}
