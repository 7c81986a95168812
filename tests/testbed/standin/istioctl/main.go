// Stand-in for istioctl: `install` applies stand-ins for Istio's Deployments, Services, CRDs and webhooks (istio.yaml), by
// server-side apply, through the kubeconfig it is given; Istio's own images cannot be had here.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// Each document starts with a comment that names the path it is applied at.
//
//go:embed istio.yaml
var objects string

const version = "1.28.0"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: istioctl install|version")
	}
	switch args[0] {
	case "version":
		fmt.Println("client version:", version)
		return nil
	case "install", "apply":
	default:
		return fmt.Errorf("%q: this stand-in knows install and version", args[0])
	}
	kubeconfig, yes := os.Getenv("KUBECONFIG"), false
	for i := 1; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		switch name {
		case "-y", "--skip-confirmation":
			yes = true
			continue
		case "--verify":
			continue
		case "--kubeconfig", "-c", "--set", "-s", "--context", "--filename", "-f", "--readiness-timeout", "--revision", "-r":
		default:
			return fmt.Errorf("unknown flag: %s", args[i])
		}
		if !joined {
			if i++; i == len(args) {
				return fmt.Errorf("%s: wants a value", name)
			}
			value = args[i]
		}
		if name == "--kubeconfig" || name == "-c" {
			kubeconfig = value
		}
		if (name == "--set" || name == "-s") && !strings.Contains(value, "=") {
			return fmt.Errorf("--set %s: want KEY=VALUE", value)
		}
	}
	if !yes {
		return fmt.Errorf("cancelled: without -y it would ask")
	}
	api, err := open(kubeconfig)
	if err != nil {
		return err
	}
	return install(api)
}

type cluster struct {
	server string
	client *http.Client
}

// open reads what a kubeconfig of one cluster and one user says: as kind and kubeadm write them.
func open(path string) (*cluster, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	field := func(name string) string {
		found := regexp.MustCompile(`(?m)["']?\b` + name + `["']?:\s*["']?([^\s"',}]+)`).FindSubmatch(text)
		if found == nil {
			return ""
		}
		return string(found[1])
	}
	data := func(name string) []byte {
		raw, _ := base64.StdEncoding.DecodeString(field(name + "-data"))
		if len(raw) == 0 {
			raw, _ = os.ReadFile(field(name))
		}
		return raw
	}
	pair, err := tls.X509KeyPair(data("client-certificate"), data("client-key"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data("certificate-authority")) {
		return nil, fmt.Errorf("%s: no certificate authority", path)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}}
	return &cluster{field("server"), &http.Client{Transport: transport, Timeout: 30 * time.Second}}, nil
}

func (c *cluster) call(method, path, kind, body string) (int, []byte, error) {
	request, err := http.NewRequest(method, c.server+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", kind)
	answer, err := c.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	return answer.StatusCode, data, err
}

func install(api *cluster) error {
	secrets, err := certificates(api)
	if err != nil {
		return err
	}
	for _, document := range strings.Split(objects, "\n---\n") {
		head, _, _ := strings.Cut(strings.TrimSpace(document), "\n")
		path := strings.TrimPrefix(head, "# ") + "?fieldManager=istioctl&force=true"
		document = secrets.Replace(document)
		deadline := time.Now().Add(30 * time.Second) // kinds of a CRD, and webhooks, take a moment
		for {
			status, data, err := api.call(http.MethodPatch, path, "application/apply-patch+yaml", document)
			if err == nil && status < 300 {
				break
			}
			if time.Now().After(deadline) || (status >= 400 && status < 404) {
				return fmt.Errorf("%s: %d %s %v", head, status, data, err)
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
	fmt.Println("✔ Istio core installed (stand-in)\n✔ Istiod installed (stand-in)\n✔ Ingress gateways installed (stand-in)\n✔ Egress gateways installed (stand-in)\n✔ Installation complete")
	return nil
}

// certificates are those the cluster has from an earlier run, else new ones: base64 for a Secret and for caBundle.
func certificates(api *cluster) (*strings.Replacer, error) {
	var have struct {
		Data map[string]string `json:"data"`
	}
	status, data, err := api.call(http.MethodGet, "/api/v1/namespaces/istio-system/secrets/istiod-tls", "application/json", "")
	if err != nil {
		return nil, err
	}
	if status != 200 || json.Unmarshal(data, &have) != nil || have.Data["tls.key"] == "" {
		if have.Data, err = makeCertificate(); err != nil {
			return nil, err
		}
	}
	return strings.NewReplacer("CA_CRT", have.Data["ca.crt"], "TLS_CRT", have.Data["tls.crt"], "TLS_KEY", have.Data["tls.key"]), nil
}

func makeCertificate() (map[string]string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "istiod.istio-system.svc"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"istiod.istio-system.svc", "istiod.istio-system"},
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	encode := func(kind string, data []byte) string {
		var out bytes.Buffer
		_ = pem.Encode(&out, &pem.Block{Type: kind, Bytes: data})
		return base64.StdEncoding.EncodeToString(out.Bytes())
	}
	certificate := encode("CERTIFICATE", der)
	return map[string]string{"ca.crt": certificate, "tls.crt": certificate, "tls.key": encode("PRIVATE KEY", private)}, nil
}
