// Stand-in for a server that cannot be had here: it listens where the real one does and answers 200 to everything.
//
// It ignores its arguments, which are meant for the program it stands for, but for a first "--once": then it ends at once.
// Settings:
//
//	STANDIN_NAME    what it says it is
//	STANDIN_HTTP    ports, separated by spaces
//	STANDIN_TLS     ports with TLS: PORT, or PORT=FOLDER with tls.crt and tls.key
//	STANDIN_ROUTES  PREFIX=URL or PREFIX>=URL (the prefix cut off), separated by spaces: passed on, not answered
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// How much of a request's body is read.
const bodyLimit = 4 << 20

type route struct {
	prefix string
	cut    bool
	proxy  *httputil.ReverseProxy
}

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 && os.Args[1] == "--once" {
		return // as an init container
	}
	name := os.Getenv("STANDIN_NAME")
	handler := answer(name, routes(os.Getenv("STANDIN_ROUTES")))
	for _, port := range strings.Fields(os.Getenv("STANDIN_HTTP")) {
		go func(port string) { log.Print(port, ": ", http.ListenAndServe(":"+port, handler)) }(port)
	}
	for _, spec := range strings.Fields(os.Getenv("STANDIN_TLS")) {
		port, folder, _ := strings.Cut(spec, "=")
		certificate, err := certificate(folder)
		if err != nil {
			log.Fatal(spec, ": ", err)
		}
		server := &http.Server{Addr: ":" + port, Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
		go func() { log.Print(server.Addr, ": ", server.ListenAndServeTLS("", "")) }()
	}
	log.Print("stand-in for ", name, " started")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

func routes(text string) []route {
	var found []route
	for _, spec := range strings.Fields(text) {
		prefix, to, _ := strings.Cut(spec, "=")
		target, err := url.Parse(to)
		if err != nil {
			log.Fatal(spec, ": ", err)
		}
		cut := strings.HasSuffix(prefix, ">")
		found = append(found, route{strings.TrimSuffix(prefix, ">"), cut, httputil.NewSingleHostReverseProxy(target)})
	}
	return found
}

func answer(name string, routes []route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, route := range routes {
			if strings.HasPrefix(r.URL.Path, route.prefix) {
				if route.cut {
					r.URL.Path = "/" + strings.TrimLeft(strings.TrimPrefix(r.URL.Path, route.prefix), "/")
				}
				route.proxy.ServeHTTP(w, r)
				return
			}
		}
		if r.URL.Path == "/metrics" || r.URL.Path == "/stats/prometheus" {
			fmt.Fprintf(w, "standin_up{name=%q} 1\n", name)
			return
		}
		if r.Method == http.MethodPost && admit(w, r) {
			return
		}
		// 64 hexadecimal digits, as a Jenkins agent looks for its secret in what the controller answers.
		digest := sha256.Sum256([]byte(name + r.URL.Path))
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"stand-in\":%q,\"path\":%q,\"status\":\"ok\",\"digest\":\"%x\"}\n", name, r.URL.Path, digest)
	})
}

// admit answers an admission review: yes, unchanged.
func admit(w http.ResponseWriter, r *http.Request) bool {
	var review struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Request    struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyLimit))
	if err != nil || json.Unmarshal(body, &review) != nil || review.Kind != "AdmissionReview" {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "{\"apiVersion\":%q,\"kind\":\"AdmissionReview\",\"response\":{\"uid\":%q,\"allowed\":true}}", review.APIVersion, review.Request.UID)
	return true
}

// certificate reads one, or makes one for itself.
func certificate(folder string) (tls.Certificate, error) {
	if folder != "" {
		return tls.LoadX509KeyPair(folder+"/tls.crt", folder+"/tls.key")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(10, 0, 0), DNSNames: []string{"localhost"}}
	data, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{data}, PrivateKey: key}, err
}
