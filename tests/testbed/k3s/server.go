package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"
)

const (
	syncPath = "/v1-k3s/stand-in"
	viewPath = "/stand-in"
	kube     = "/etc/rancher/k3s/k3s.yaml"
)

// nodeState is a machine of the cluster.
type nodeState struct {
	Name, IP, Role, Password string
	Number                   int
	Seen                     time.Time
}

// report is what a node says of a pod of its.
type report struct {
	IP, Phase string
	Ready     bool
	Restarts  int
}

type podState struct {
	Name, Namespace, Owner, Node string
	Labels                       map[string]string
	Spec                         podSpec
	Report                       report
}

type serviceState struct {
	Name, Namespace, IP string
	Ports               []servicePort
	Selector            map[string]any
}

// view is what nodes and kubectl are told.
type view struct {
	Nodes    []nodeState
	Pods     []podState
	Services []serviceState
	Config   map[string]map[string]string
	Now      time.Time
}

// joining is what a node says.
type joining struct {
	Node nodeState
	Pods map[string]report
}

type cluster struct {
	sync.Mutex
	nodes map[string]nodeState
	view  view
	token string
	admin string
}

func (n nodeState) labels() map[string]string {
	all := map[string]string{"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
	if n.Role == "server" {
		all["node-role.kubernetes.io/control-plane"] = "true"
	}
	return all
}

func (n nodeState) subnet(host int) string   { return fmt.Sprintf("10.42.%d.%d", n.Number, host) }
func (n nodeState) ready(now time.Time) bool { return now.Sub(n.Seen) < 40*time.Second }

// serve starts the API of a server.
func serve(at options, objects []object) (*cluster, error) {
	c := &cluster{nodes: map[string]nodeState{}, token: at.token, view: view{Config: map[string]map[string]string{}}}
	if text, err := os.ReadFile(data + "/server/db/stand-in.json"); err == nil {
		if err := json.Unmarshal(text, &c.nodes); err != nil {
			return nil, err
		}
	}
	c.take(objects)
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	c.admin = hex.EncodeToString(secret)
	certificate, err := selfSigned(at)
	if err != nil {
		return nil, err
	}
	routes := http.NewServeMux()
	routes.HandleFunc(syncPath, c.answerNode)
	routes.HandleFunc(viewPath, c.answerAdmin)
	routes.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "pong") })
	server := http.Server{Addr: ":6443", Handler: routes, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	listener, err := net.Listen("tcp", server.Addr)
	if err != nil {
		return nil, err
	}
	go func() { log.Fatal(server.ServeTLS(listener, "", "")) }()
	for path, text := range map[string]string{
		data + "/server/node-token": at.token + "\n",
		kube:                        "apiVersion: v1\nkind: Config\nclusters: [{name: default, cluster: {server: 'https://127.0.0.1:6443'}}]\nusers: [{name: default, user: {token: " + c.admin + "}}]\ncontexts: [{name: default, context: {cluster: default, user: default}}]\ncurrent-context: default\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		mode := os.FileMode(0o600)
		if path == kube {
			mode = at.mode
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// take makes pods and services of what was applied.
func (c *cluster) take(objects []object) {
	for _, one := range objects {
		meta := one.Metadata
		switch one.Kind {
		case "ConfigMap":
			c.view.Config[meta.Namespace+"/"+meta.Name] = one.Data
		case "Service":
			c.view.Services = append(c.view.Services, serviceState{meta.Name, meta.Namespace, fmt.Sprintf("10.43.0.%d", 10+len(c.view.Services)), one.Spec.Ports, one.Spec.Selector})
		case "Deployment":
			replicas := 1
			if one.Spec.Replicas != nil {
				replicas = *one.Spec.Replicas
			}
			for i := 0; i < replicas; i++ {
				c.view.Pods = append(c.view.Pods, podState{Name: fmt.Sprintf("%s-%d", meta.Name, i), Namespace: meta.Namespace, Owner: meta.Name,
					Labels: one.Spec.Template.Metadata.Labels, Spec: one.Spec.Template.Spec, Report: report{Phase: "Pending"}})
			}
		}
	}
}

func (c *cluster) answerNode(w http.ResponseWriter, r *http.Request) {
	_, token, _ := r.BasicAuth()
	if subtle.ConstantTimeCompare([]byte(token), []byte(c.token)) != 1 {
		http.Error(w, "not authorized: the token is not this server's", http.StatusUnauthorized)
		return
	}
	var said joining
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&said); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	told, err := c.sync(said)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	_ = json.NewEncoder(w).Encode(told)
}

func (c *cluster) answerAdmin(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+c.admin)) != 1 {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	c.Lock()
	defer c.Unlock()
	_ = json.NewEncoder(w).Encode(c.now())
}

// sync takes what a node says, and gives what it is to know.
func (c *cluster) sync(said joining) (view, error) {
	c.Lock()
	defer c.Unlock()
	node, hash := said.Node, sha256.Sum256([]byte(said.Node.Password))
	node.Password, node.Seen = hex.EncodeToString(hash[:]), time.Now()
	old, known := c.nodes[node.Name]
	if known && old.Password != node.Password {
		return view{}, fmt.Errorf("node password rejected: there is another machine called %s", node.Name)
	}
	for name, other := range c.nodes {
		if name != node.Name && other.IP == node.IP && other.ready(node.Seen) {
			return view{}, fmt.Errorf("%s and %s both have address %s", name, node.Name, node.IP)
		}
	}
	if node.Number = old.Number; !known {
		node.Number = len(c.nodes)
		log.Printf("node %s (%s) joined", node.Name, node.IP)
	}
	c.nodes[node.Name] = node
	if !known {
		if err := c.save(); err != nil {
			return view{}, err
		}
	}
	for i, pod := range c.view.Pods {
		if its, ok := said.Pods[pod.Namespace+"/"+pod.Name]; ok && pod.Node == node.Name {
			if its.Phase != pod.Report.Phase || its.Ready != pod.Report.Ready {
				log.Printf("pod %s/%s on %s: %s, ready: %v", pod.Namespace, pod.Name, node.Name, its.Phase, its.Ready)
			}
			c.view.Pods[i].Report = its
		}
	}
	c.schedule()
	return c.now(), nil
}

func (c *cluster) save() error {
	text, err := json.Marshal(c.nodes)
	if err == nil {
		err = os.MkdirAll(data+"/server/db", 0o700)
	}
	if err == nil {
		err = os.WriteFile(data+"/server/db/stand-in.json", text, 0o600)
	}
	return err
}

func (c *cluster) now() view {
	told := c.view
	told.Now = time.Now()
	told.Nodes = nil
	for _, node := range c.nodes {
		node.Password = ""
		told.Nodes = append(told.Nodes, node)
	}
	sort.Slice(told.Nodes, func(i, j int) bool { return told.Nodes[i].Name < told.Nodes[j].Name })
	return told
}

// schedule gives pods without a node to the fitting node with the fewest.
func (c *cluster) schedule() {
	count, now := map[string]int{}, time.Now()
	for _, pod := range c.view.Pods {
		count[pod.Node]++
	}
	for i, pod := range c.view.Pods {
		if pod.Node != "" {
			continue
		}
		best := ""
		for name, node := range c.nodes {
			if node.ready(now) && fits(pod.Spec, node.labels()) && (best == "" || count[name] < count[best] || count[name] == count[best] && name < best) {
				best = name
			}
		}
		if best != "" {
			c.view.Pods[i].Node = best
			count[best]++
		}
	}
}

func selfSigned(at options) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	about := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "k3s"}, NotBefore: time.Unix(0, 0),
		NotAfter: time.Now().AddDate(10, 0, 0), IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(at.ip)}, DNSNames: []string{at.name}}
	signed, err := x509.CreateCertificate(rand.Reader, &about, &about, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, err
}
