package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// object is as much of a Kubernetes object as is understood here.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name, Namespace string }
	Data       map[string]string
	Spec       struct {
		Replicas *int
		Type     string
		// A Service's is a map, a Deployment's has matchLabels.
		Selector map[string]any
		Ports    []servicePort
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     podSpec
		}
	}
}

type servicePort struct {
	Name       string
	Port       int
	TargetPort any `yaml:"targetPort"`
	NodePort   int `yaml:"nodePort"`
}

type podSpec struct {
	NodeSelector map[string]string `yaml:"nodeSelector"`
	Affinity     struct {
		NodeAffinity struct {
			Required struct {
				Terms []struct {
					MatchExpressions []struct {
						Key, Operator string
						Values        []string
					} `yaml:"matchExpressions"`
				} `yaml:"nodeSelectorTerms"`
			} `yaml:"requiredDuringSchedulingIgnoredDuringExecution"`
		} `yaml:"nodeAffinity"`
	}
	Containers []struct {
		Name, Image     string
		ImagePullPolicy string `yaml:"imagePullPolicy"`
		Command, Args   []string
		Env             []struct {
			Name, Value string
			ValueFrom   any `yaml:"valueFrom"`
		}
		Ports []struct {
			Name          string
			ContainerPort int `yaml:"containerPort"`
		}
		ReadinessProbe probe `yaml:"readinessProbe"`
		VolumeMounts   []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			SubPath   string `yaml:"subPath"`
		} `yaml:"volumeMounts"`
	}
	Volumes []struct {
		Name      string
		ConfigMap *struct{ Name string }      `yaml:"configMap"`
		EmptyDir  *struct{ SizeLimit string } `yaml:"emptyDir"`
	}
}

type probe struct {
	HTTPGet *struct {
		Path string
		Port any
	} `yaml:"httpGet"`
	TCPSocket *struct{ Port any } `yaml:"tcpSocket"`
}

// Names of objects, and of the files they come in: k3s makes an object of the file's name.
var rfc1123 = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// manifests reads what k3s would apply at its start.
func manifests() ([]object, error) {
	paths, err := filepath.Glob(data + "/server/manifests/*")
	if err != nil {
		return nil, err
	}
	var all []object
	for _, path := range paths {
		name, ending := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), filepath.Ext(path)
		if ending == ".skip" {
			continue
		}
		if ending != ".yaml" && ending != ".yml" && ending != ".json" {
			return nil, fmt.Errorf("%s: k3s applies .yaml, .yml and .json only", path)
		}
		if !rfc1123.MatchString(name) {
			return nil, fmt.Errorf("%s: `%s` can not be the name of an object (RFC 1123)", path, name)
		}
		if _, err := os.Stat(path + ".skip"); err == nil {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		for reader := yaml.NewDecoder(file); ; {
			var one object
			if err := reader.Decode(&one); err == io.EOF {
				break
			} else if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			if one.Kind == "" && one.APIVersion == "" {
				continue
			}
			if one.Kind == "" || one.APIVersion == "" || !rfc1123.MatchString(one.Metadata.Name) {
				return nil, fmt.Errorf("%s: an object without apiVersion, kind or a name that is one", path)
			}
			if one.Metadata.Namespace == "" && one.Kind != "Namespace" {
				one.Metadata.Namespace = "default"
			}
			all = append(all, one)
		}
	}
	return all, understood(all)
}

func understood(all []object) error {
	spaces, seen := map[string]bool{"default": true, "kube-system": true, "kube-public": true}, map[string]bool{}
	ports := map[int]string{}
	for _, one := range all {
		if one.Kind == "Namespace" {
			spaces[one.Metadata.Name] = true
		}
	}
	for _, one := range all {
		called := fmt.Sprintf("%s %s/%s", one.Kind, one.Metadata.Namespace, one.Metadata.Name)
		if seen[called] {
			return fmt.Errorf("there are two of %s", called)
		}
		seen[called] = true
		if one.Kind != "Namespace" && !spaces[one.Metadata.Namespace] {
			return fmt.Errorf("%s: there is no such namespace", called)
		}
		var err error
		switch one.APIVersion + " " + one.Kind {
		case "v1 Namespace", "v1 ConfigMap", "v1 ServiceAccount":
		case "v1 Service":
			for _, port := range one.Spec.Ports {
				if (one.Spec.Type == "NodePort") != (port.NodePort != 0) {
					err = errors.New("the stand-in wants a nodePort for every port of type NodePort, and for no other")
				} else if port.NodePort != 0 && (port.NodePort < 30000 || port.NodePort > 32767) {
					err = fmt.Errorf("%d is no node port (30000-32767)", port.NodePort)
				} else if other := ports[port.NodePort]; port.NodePort != 0 && other != "" {
					err = fmt.Errorf("node port %d is taken by %s", port.NodePort, other)
				}
				ports[port.NodePort] = called
			}
		case "apps/v1 Deployment":
			err = pod(one)
		default:
			err = errors.New("the stand-in does not know this kind")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", called, err)
		}
	}
	return nil
}

func pod(one object) error {
	spec := one.Spec.Template.Spec
	match, _ := one.Spec.Selector["matchLabels"].(map[string]any)
	if len(match) == 0 || !selects(match, one.Spec.Template.Metadata.Labels) {
		return errors.New("its selector does not select its pods")
	}
	if len(spec.Containers) != 1 {
		return errors.New("the stand-in runs pods of one container")
	}
	its := spec.Containers[0]
	tag := its.Image[strings.LastIndex(its.Image, "/")+1:]
	if its.ImagePullPolicy == "Always" || its.ImagePullPolicy == "" && (!strings.Contains(tag, ":") || strings.HasSuffix(tag, ":latest")) {
		return fmt.Errorf("image %s would be pulled at every start", its.Image)
	}
	for _, env := range its.Env {
		if env.ValueFrom != nil {
			return errors.New("the stand-in knows no valueFrom")
		}
	}
	for _, volume := range spec.Volumes {
		if volume.ConfigMap == nil && volume.EmptyDir == nil {
			return errors.New("the stand-in knows volumes of configMap and emptyDir")
		}
	}
	return nil
}

// selects: every label wanted is there.
func selects(wanted map[string]any, labels map[string]string) bool {
	for key, value := range wanted {
		if fmt.Sprint(value) != labels[key] {
			return false
		}
	}
	return true
}

// fits: may a pod run on a node with these labels?
func fits(spec podSpec, labels map[string]string) bool {
	for key, value := range spec.NodeSelector {
		if labels[key] != value {
			return false
		}
	}
	terms := spec.Affinity.NodeAffinity.Required.Terms
	for _, term := range terms {
		good := true
		for _, rule := range term.MatchExpressions {
			value, there := labels[rule.Key]
			in := false
			for _, one := range rule.Values {
				in = in || there && one == value
			}
			switch rule.Operator {
			case "Exists":
				good = good && there
			case "DoesNotExist":
				good = good && !there
			case "In":
				good = good && in
			case "NotIn":
				good = good && !in
			default:
				good = false
			}
		}
		if good {
			return true
		}
	}
	return len(terms) == 0
}

// portOf is the number of a port of a pod, given by number or name.
func portOf(spec podSpec, port any) int {
	switch port := port.(type) {
	case int:
		return port
	case float64: // out of JSON
		return int(port)
	case string:
		for _, one := range spec.Containers[0].Ports {
			if one.Name == port {
				return one.ContainerPort
			}
		}
	}
	return 0
}
