package main

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// forwarder leads a service's port to its pods: what kube-proxy does, by copying.
type forwarder struct {
	sync.Mutex
	to   []string
	next int
}

// forward opens every service's port on this node: at the service's address, and as a node port everywhere.
func (m *machine) forward(told view) error {
	for _, service := range told.Services {
		for _, port := range service.Ports {
			places := []string{fmt.Sprintf("%s:%d", service.IP, port.Port)}
			if port.NodePort != 0 {
				places = append(places, fmt.Sprintf("0.0.0.0:%d", port.NodePort))
			}
			for _, place := range places {
				one := m.ports[place]
				if one == nil {
					listener, err := net.Listen("tcp4", place)
					if err != nil {
						return err
					}
					one = &forwarder{}
					m.ports[place] = one
					go one.accept(listener)
				}
				one.Lock()
				one.to = behind(service, port, told.Pods)
				one.Unlock()
			}
		}
	}
	return nil
}

func (f *forwarder) accept(listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		go f.pass(near.(*net.TCPConn))
	}
}

func (f *forwarder) pass(near *net.TCPConn) {
	defer near.Close()
	f.Lock()
	if len(f.to) == 0 {
		f.Unlock()
		return
	}
	f.next++
	place := f.to[f.next%len(f.to)]
	f.Unlock()
	far, err := net.Dial("tcp", place)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		_, _ = io.Copy(far, near)
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(near, far)
}
