package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

const images = data + "/agent/images"

// containerd is the one that runs here.
type containerd struct{ bin string }

const config = `version = 2
root = "` + data + `/agent/containerd"
state = "` + run + `/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "` + socket + `"
`

// startContainerd starts it where k3s has it, and waits until it answers. It ends when this process does.
func startContainerd() (containerd, error) {
	dir, err := bin()
	engine := containerd{dir}
	if err != nil {
		return engine, err
	}
	for _, folder := range []string{data + "/agent/containerd", data + "/agent/etc/containerd", run + "/containerd"} {
		if err := os.MkdirAll(folder, 0o711); err != nil {
			return engine, err
		}
	}
	path := data + "/agent/etc/containerd/config.toml"
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return engine, err
	}
	out, err := os.OpenFile(data+"/agent/containerd/containerd.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return engine, err
	}
	daemon := exec.Command(dir+"/containerd", "--config", path)
	daemon.Stdout, daemon.Stderr = out, out
	daemon.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	daemon.SysProcAttr = dieWithParent()
	if err := startChild(daemon); err != nil {
		return engine, err
	}
	for i := 0; i < 600; i++ {
		if _, err = engine.ctr("version"); err == nil {
			return engine, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return engine, fmt.Errorf("containerd does not answer: %w (%s)", err, out.Name())
}

// ctr runs it, and gives what it says.
func (c containerd) ctr(args ...string) (string, error) { return c.ctrFrom(nil, args...) }

func (c containerd) ctrFrom(in io.Reader, args ...string) (string, error) {
	command := exec.Command(c.bin+"/ctr", append([]string{"-a", socket, "-n", "k8s.io"}, args...)...)
	var said, wrong bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = in, &said, &wrong
	command.Env = append(os.Environ(), "PATH="+c.bin+":"+os.Getenv("PATH"))
	if err := command.Run(); err != nil {
		return said.String(), fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(wrong.String()))
	}
	return said.String(), nil
}

// state of an archive that was imported, as .cache.json has it: what did not change is not imported again.
type state struct {
	Size    int64     `json:"size"`
	ModTime time.Time `json:"modTime"`
}

// importAll imports the archives one after the other, in the order of their names.
func importAll(engine containerd) error {
	path := images + "/.cache.json"
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there: it is opened, not made, and without it k3s imports every image at every start", path)
	} else if err != nil {
		return err
	}
	known := map[string]state{}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := json.Unmarshal(text, &known); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	entries, err := os.ReadDir(images)
	if err != nil {
		return err
	}
	now := map[string]state{}
	for _, entry := range entries {
		if entry.Name() == ".cache.json" {
			continue
		}
		path, its := filepath.Join(images, entry.Name()), state{}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no file", path)
		}
		its = state{info.Size(), info.ModTime().UTC()}
		if old, ok := known[path]; !ok || old.Size != its.Size || !old.ModTime.Equal(its.ModTime) {
			if err := importOne(engine, path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		} else {
			log.Printf("%s has not changed since it was imported", entry.Name())
		}
		now[path] = its
	}
	text, err = json.Marshal(now)
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	return err
}

func importOne(engine containerd, path string) error {
	names, err := namesIn(path)
	if err != nil {
		return err
	}
	archive, closing, err := open(path)
	if err != nil {
		return err
	}
	defer closing()
	if _, err := engine.ctrFrom(archive, "images", "import", "--all-platforms", "-"); err != nil {
		return err
	}
	for _, name := range names {
		// So that nothing that tidies up takes them away.
		if _, err := engine.ctr("images", "label", name, "io.cattle.k3s.pinned=pinned", "io.cri-containerd.pinned=pinned"); err != nil {
			return fmt.Errorf("%s did not come out of it: %w", name, err)
		}
	}
	log.Printf("imported %s: %s", filepath.Base(path), strings.Join(names, ", "))
	return nil
}

// open gives an archive's tar, whatever its name says it is packed with.
func open(path string) (io.Reader, func(), error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	closing := func() { file.Close() }
	ends := func(endings ...string) bool {
		for _, ending := range endings {
			if strings.HasSuffix(path, ending) {
				return true
			}
		}
		return false
	}
	switch {
	case ends(".tar"):
		return file, closing, nil
	case ends(".tar.zst", ".tzst"):
		unpacked, err := zstd.NewReader(file)
		if err != nil {
			return nil, closing, err
		}
		return unpacked, func() { unpacked.Close(); closing() }, nil
	case ends(".tar.gz", ".tgz"):
		unpacked, err := gzip.NewReader(file)
		return unpacked, closing, err
	case ends(".txt"):
		return nil, closing, errors.New("a list of images to pull: nothing can be pulled")
	}
	return nil, closing, errors.New("k3s does not take a file of this name for an archive of images")
}

// namesIn reads an archive to its end: an OCI layout (names in annotations) or what Docker saves (names in manifest.json). Every
// image must have a name that containerd and the kubelet agree on: with its registry and its tag.
func namesIn(path string) ([]string, error) {
	archive, closing, err := open(path)
	if err != nil {
		return nil, err
	}
	defer closing()
	var layout, index, manifest []byte
	for entries := tar.NewReader(archive); ; {
		entry, err := entries.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		for name, to := range map[string]*[]byte{"oci-layout": &layout, "index.json": &index, "manifest.json": &manifest} {
			if strings.TrimPrefix(entry.Name, "./") == name {
				if *to, err = io.ReadAll(io.LimitReader(entries, 16<<20)); err != nil {
					return nil, err
				}
			}
		}
	}
	var names []string
	switch {
	case layout != nil && index != nil:
		var list struct {
			Manifests []struct{ Annotations map[string]string }
		}
		if err := json.Unmarshal(index, &list); err != nil {
			return nil, err
		}
		for _, one := range list.Manifests {
			name := one.Annotations["io.containerd.image.name"]
			if name == "" {
				name = one.Annotations["org.opencontainers.image.ref.name"]
			}
			names = append(names, name)
		}
	case manifest != nil:
		var list []struct{ RepoTags []string }
		if err := json.Unmarshal(manifest, &list); err != nil {
			return nil, err
		}
		for _, one := range list {
			names = append(names, one.RepoTags...)
		}
	default:
		return nil, errors.New("neither an OCI layout nor what Docker saves")
	}
	for i, name := range names {
		if name = normal(name); !strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
			return nil, fmt.Errorf("an image in it has no whole name: `%s`", names[i])
		}
		names[i] = name
	}
	if len(names) == 0 {
		return nil, errors.New("there is no image in it")
	}
	return names, nil
}

// normal spells a reference as the kubelet does: `busybox:1` is docker.io/library/busybox:1.
func normal(name string) string {
	first, rest, has := strings.Cut(name, "/")
	switch {
	case !has:
		return "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		return "docker.io/" + first + "/" + rest
	}
	return name
}
