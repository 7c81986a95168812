package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"gopkg.in/yaml.v3"
)

// kubectl knows `get nodes|pods|services|deployments` and `wait --for=condition=…`.
func kubectl(args []string) error {
	namespace, all, header, limit, condition := "default", false, true, 30*time.Second, ""
	var words []string
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(args[i], "=")
		switch name {
		case "-n", "--namespace", "--timeout", "--for", "-o", "--output":
			if !has && i+1 < len(args) {
				i++
				value = args[i]
			}
			switch name {
			case "-n", "--namespace":
				namespace = value
			case "--timeout":
				given, err := time.ParseDuration(value)
				if err != nil {
					return err
				}
				limit = given
			case "--for":
				condition = strings.TrimPrefix(value, "condition=")
			default:
				if value != "wide" {
					return fmt.Errorf("the stand-in's kubectl has no output `%s`", value)
				}
			}
		case "-A", "--all-namespaces", "--all":
			all = true
		case "--no-headers", "--no-headers=true":
			header = false
		default:
			if strings.HasPrefix(name, "-") {
				return fmt.Errorf("the stand-in's kubectl has no `%s`", args[i])
			}
			words = append(words, args[i])
		}
	}
	switch {
	case len(words) > 1 && words[0] == "get":
		told, err := look()
		if err != nil {
			return err
		}
		return show(told, words[1], words[2:], namespace, all, header)
	case len(words) > 1 && words[0] == "wait":
		return wait(words[1:], condition, namespace, all, limit)
	}
	return errors.New("the stand-in's kubectl knows `get` and `wait` only")
}

// look asks the server, by the kubeconfig that k3s leaves for root.
func look() (view, error) {
	var told view
	text, err := os.ReadFile(kube)
	if err != nil {
		return told, err
	}
	var config struct {
		Users []struct{ User struct{ Token string } }
	}
	if err := yaml.Unmarshal(text, &config); err != nil || len(config.Users) == 0 {
		return told, fmt.Errorf("%s is no kubeconfig (%v)", kube, err)
	}
	request, err := http.NewRequest("GET", "https://127.0.0.1:6443"+viewPath, nil)
	if err != nil {
		return told, err
	}
	request.Header.Set("Authorization", "Bearer "+config.Users[0].User.Token)
	answer, err := client.Do(request)
	if err != nil {
		return told, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return told, errors.New("You must be logged in to the server (Unauthorized)")
	}
	return told, json.NewDecoder(answer.Body).Decode(&told)
}

func show(told view, kind string, names []string, namespace string, all, header bool) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 8, 3, ' ', 0)
	defer out.Flush()
	line := func(heading bool, cells ...string) {
		if !heading || header {
			fmt.Fprintln(out, strings.Join(cells, "\t"))
		}
	}
	wanted := func(name, in string) bool {
		for _, one := range names {
			if one == name {
				return all || in == namespace
			}
		}
		return len(names) == 0 && (all || in == namespace)
	}
	switch kind {
	case "node", "nodes", "no":
		line(true, "NAME", "STATUS", "ROLES", "VERSION", "INTERNAL-IP")
		for _, node := range told.Nodes {
			status, roles := "NotReady", "<none>"
			if node.ready(told.Now) {
				status = "Ready"
			}
			if node.Role == "server" {
				roles = "control-plane"
			}
			if wanted(node.Name, namespace) {
				line(false, node.Name, status, roles, version, node.IP)
			}
		}
	case "pod", "pods", "po":
		line(true, "NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "NODE")
		for _, pod := range told.Pods {
			if wanted(pod.Name, pod.Namespace) {
				ready := "0/1"
				if pod.Report.Ready {
					ready = "1/1"
				}
				line(false, pod.Namespace, pod.Name, ready, pod.Report.Phase, fmt.Sprint(pod.Report.Restarts), pod.Report.IP, pod.Node)
			}
		}
	case "service", "services", "svc":
		line(true, "NAMESPACE", "NAME", "CLUSTER-IP", "PORT(S)")
		for _, one := range told.Services {
			var ports []string
			for _, port := range one.Ports {
				ports = append(ports, strings.TrimSuffix(fmt.Sprintf("%d:%d/TCP", port.Port, port.NodePort), ":0/TCP"))
			}
			if wanted(one.Name, one.Namespace) {
				line(false, one.Namespace, one.Name, one.IP, strings.Join(ports, ","))
			}
		}
	default:
		return fmt.Errorf("the stand-in's kubectl does not know `%s`", kind)
	}
	return nil
}

// wait waits until every object named meets the condition: Ready for nodes and pods, Available for deployments.
func wait(words []string, condition, namespace string, all bool, limit time.Duration) error {
	var objects []string
	kind := ""
	for _, word := range words {
		if strings.Contains(word, "/") {
			objects = append(objects, word)
		} else if kind == "" {
			kind = word
		} else {
			objects = append(objects, kind+"/"+word)
		}
	}
	until := time.Now().Add(limit)
	for {
		told, err := look()
		if err != nil {
			return err
		}
		waited := objects
		if all && strings.HasPrefix(kind, "node") {
			waited = nil
			for _, node := range told.Nodes {
				waited = append(waited, "node/"+node.Name)
			}
		}
		missing, absent := "", ""
		for _, one := range waited {
			met, there := meets(told, one, condition, namespace)
			if !there {
				absent = one
			} else if !met {
				missing = one
			}
		}
		switch {
		case len(waited) == 0:
			return errors.New("no matching resources found")
		case absent != "":
			return fmt.Errorf("%s not found", absent)
		case missing == "":
			for _, one := range waited {
				fmt.Printf("%s condition met\n", one)
			}
			return nil
		case time.Now().After(until):
			return fmt.Errorf("timed out waiting for the condition on %s", missing)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func meets(told view, object, condition, namespace string) (met, there bool) {
	kind, name, _ := strings.Cut(object, "/")
	switch {
	case strings.HasPrefix(kind, "node") && condition == "Ready":
		for _, node := range told.Nodes {
			if node.Name == name {
				return node.ready(told.Now), true
			}
		}
	case strings.HasPrefix(kind, "pod") && condition == "Ready", strings.HasPrefix(kind, "deployment") && condition == "Available":
		met = true
		for _, pod := range told.Pods {
			if pod.Namespace == namespace && (pod.Name == name || pod.Owner == name && strings.HasPrefix(kind, "deployment")) {
				there, met = true, met && pod.Report.Ready
			}
		}
	}
	return met && there, there
}
