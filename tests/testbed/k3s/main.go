// Stand-in for k3s: one static program that brings containerd and runc along, as k3s does. It reads the files k3s would read, where
// k3s would read them, and refuses to start when one of them is not as k3s wants it; it imports the archives of images into its
// own containerd, lets workers join by token, and runs the Deployments of server/manifests: enough of Kubernetes for the labs of
// this repository, and no more. It never pulls an image.
//
// What is checked, and where it is said: k3s documentation, "Air-Gap Install", "Import Images", "Private Registry Configuration",
// "Managing Packaged Components", "k3s server", "k3s agent".
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

const (
	version = "v1.34.2+k3s1"
	program = "/usr/local/bin/k3s"
	data    = "/var/lib/rancher/k3s"
	run     = "/run/k3s"
	socket  = run + "/containerd/containerd.sock"
)

// containerd, its shim, ctr and runc: a tar, packed by `build`.
//
//go:embed payload.tar.zst
var payload []byte

func main() {
	log.SetFlags(log.Ltime)
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name == "k3s" {
		if len(args) == 0 {
			fmt.Println("usage: k3s server|agent|kubectl|crictl|ctr|--version")
			return
		}
		name, args = args[0], args[1:]
	}
	var err error
	switch name {
	case "server", "agent":
		log.SetPrefix("k3s " + name + " (stand-in): ")
		err = start(name, args)
	case "kubectl":
		err = kubectl(args)
	case "ctr":
		err = ctrExec(args)
	case "crictl":
		err = crictl(args)
	case "--version", "-v":
		fmt.Printf("k3s version %s (stand-in)\n", version)
	default:
		err = fmt.Errorf("the stand-in for k3s has no `%s`", name)
	}
	if err != nil {
		if name == "server" || name == "agent" {
			log.Printf("fatal: %v", err)
		} else {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
		}
		os.Exit(1)
	}
}

// bin is the folder of the programs that travel inside; they are unpacked where they are not there yet, as k3s does.
func bin() (string, error) {
	sum := sha256.Sum256(payload)
	to := filepath.Join(data, "data", hex.EncodeToString(sum[:]), "bin")
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	if os.Geteuid() != 0 {
		return "", errors.New("wants root: sudo k3s …")
	}
	fresh := to + ".new"
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return "", err
	}
	unpacked, err := zstd.NewReader(bytes.NewReader(payload))
	if err != nil {
		return "", err
	}
	defer unpacked.Close()
	for entries := tar.NewReader(unpacked); ; {
		entry, err := entries.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return "", err
		}
		if entry.Typeflag != tar.TypeReg {
			continue
		}
		file, err := os.OpenFile(filepath.Join(fresh, filepath.Base(entry.Name)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
		if err != nil {
			return "", err
		}
		if _, err = io.Copy(file, entries); err == nil {
			err = file.Close()
		}
		if err != nil {
			return "", err
		}
	}
	return to, os.Rename(fresh, to)
}

func ctrExec(args []string) error {
	dir, err := bin()
	if err != nil {
		return err
	}
	env := append(os.Environ(), "CONTAINERD_ADDRESS="+socket, "CONTAINERD_NAMESPACE=k8s.io")
	return syscall.Exec(dir+"/ctr", append([]string{"ctr"}, args...), env)
}

// crictl knows `images` and `ps`.
func crictl(args []string) error {
	dir, err := bin()
	if err != nil {
		return err
	}
	engine := containerd{bin: dir}
	switch strings.Join(args, " ") {
	case "images":
		names, err := engine.ctr("images", "ls", "-q")
		if err != nil {
			return err
		}
		fmt.Printf("%-60s %s\n", "IMAGE", "TAG")
		for _, name := range strings.Fields(names) {
			at := strings.LastIndex(name, ":")
			fmt.Printf("%-60s %s\n", name[:at], name[at+1:])
		}
	case "ps":
		out, err := engine.ctr("tasks", "ls")
		fmt.Print(out)
		return err
	default:
		return fmt.Errorf("the stand-in's crictl knows `images` and `ps`, not `%s`", strings.Join(args, " "))
	}
	return nil
}
