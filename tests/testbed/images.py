"""images.py PARTS OUT: every image that really runs, into OUT/registry/data. `images` made the trees and programs."""
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time

from oci import File, Registry

PARTS, OUT = sys.argv[1:3]
HERE = os.path.dirname(os.path.abspath(__file__))
KUBERNETES = 'v1.34.0'
REGISTRY = os.path.join(OUT, 'registry/data')
NODE = os.path.join(HERE, 'node')
PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


def part(name, to):
    return File(to, source=os.path.join(PARTS, name), mode=0o755)


def ours(name, to, mode=0o644):
    return File(to, source=os.path.join(NODE, name), mode=mode)


def program(source, to, cmd=(), **config):
    """Layers and configuration of an image that is one static program."""
    files = [File('tmp', mode=0o1777), File(to, source=source, mode=0o755)]
    return files, {'Entrypoint': [to], 'Cmd': list(cmd), 'Env': [PATH], **config}


# repository:tag -> (files, config); all of scratch.
PROGRAMS = {
    f'{name}:{KUBERNETES}': program(os.path.join(PARTS, name), f'/usr/local/bin/{name}')
    for name in ('kube-apiserver', 'kube-controller-manager', 'kube-scheduler')
}
PROGRAMS |= {
    'etcd:3.6.4-0': program(os.path.join(PARTS, 'etcd'), '/usr/local/bin/etcd'),
    'coredns/coredns:v1.12.1': program(os.path.join(PARTS, 'coredns'), '/coredns'),
    'otel/opentelemetry-collector:0.111.0': program(
        os.path.join(PARTS, 'otelcol'), '/otelcol', ['--config', '/etc/otelcol/config.yaml'], User='10001'),
    'jaegertracing/all-in-one:1.62.0': program(
        os.path.join(PARTS, 'all-in-one'), '/go/bin/all-in-one-linux', User='10001', ExposedPorts={'16686/tcp': {}, '4317/tcp': {}}),
    # Not kubeadm's 3.10.1: kind v0.30.0 leaves that one out of its node images, and puts this one in.
    'pause:3.10': program(os.path.join(OUT, 'bin/pause'), '/pause', User='65535:65535'),
}
# What the control plane of a node is made of: name on the node -> where it stands here.
PRELOADED = {f'registry.k8s.io/{name}': name for name in PROGRAMS if not name.startswith(('otel/', 'jaegertracing/'))}
PRELOADED |= {f'registry.k8s.io/kube-proxy:{KUBERNETES}': f'kube-proxy:{KUBERNETES}',
              'docker.io/labimg-test/podnet:1': 'labimg-test/podnet:1'}
NODE_FILES = [
    ours('entry.sh', '/usr/local/bin/entrypoint', 0o755), ours('containerd.toml', '/etc/containerd/config.toml'),
    ours('kubelet.service', '/etc/systemd/system/kubelet.service'), ours('dns-relay.service', '/etc/systemd/system/dns-relay.service'),
    *[File(f'/etc/systemd/system/multi-user.target.wants/{unit}.service', link=f'/etc/systemd/system/{unit}.service') for unit in ('kubelet', 'dns-relay')],
    *[part(name, f'/usr/bin/{name}') for name in ('kubeadm', 'kubelet', 'kubectl')],
    *[part(name, f'/opt/cni/bin/{name}') for name in ('ptp', 'bridge', 'loopback', 'host-local', 'portmap')],
    ours('default-cni.yaml', '/kind/manifests/default-cni.yaml'), File('/kind/version', data=KUBERNETES.encode() + b'\n'),
]
NODE_CONFIG = {'Entrypoint': ['/usr/local/bin/entrypoint'], 'Env': [PATH, 'container=docker'], 'StopSignal': 'SIGRTMIN+3'}
# -n: kind's maxconn of 100000 needs more file descriptors than a container here may have.
HAPROXY = ['/usr/sbin/haproxy', '-W', '-db', '-n', '4000', '-f', '/usr/local/etc/haproxy/haproxy.cfg']
HAPROXY_BOOT = b'''defaults
  mode tcp
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend f
  bind 127.0.0.1:1
  default_backend b
backend b
'''


def standin(name, http='', tls='', **config):
    """A program that answers 200 on these ports, whatever it is asked and with whatever arguments it is started."""
    files, base = program(os.path.join(OUT, 'bin/standin'), '/standin', **config)
    return files, base | {'Env': [PATH, f'STANDIN_NAME={name}', f'STANDIN_HTTP={http}', f'STANDIN_TLS={tls}']}


# What no program here can be had for: images that start and answer.
STANDINS = {
    'istio/pilot': standin('istiod', '8080 15014 15010', '15017=/etc/istiod-tls'),
    'istio/proxyv2': standin('proxy', '8080 15021 15090'),
    'grafana/grafana': standin('grafana', '3000'),
    'kiali/kiali': standin('kiali', '20001 9090'),
    'prometheus-operator/prometheus-config-reloader': standin('config-reloader', '8080'),
    'kubernetesui/dashboard': standin('dashboard', '9090', '8443'),
    'kubernetesui/metrics-scraper': standin('metrics-scraper', '8000'),
    'jenkins/jenkins': standin('jenkins', '8080 50000'),
    'kiwigrid/k8s-sidecar': standin('k8s-sidecar', '8080'),
}


def make(kind, name):
    """Makes one layer: in a process of its own, because compressing is most of the work."""
    registry = Registry(REGISTRY)
    if kind == 'tree':
        return registry.tree(os.path.join(OUT, 'trees', name + '.tar'))
    return registry.files(LAYERS[name])


LAYERS = {name: files for name, (files, _) in PROGRAMS.items()} | {
    'node': NODE_FILES,
    'kube-proxy': [part('kube-proxy', '/usr/local/bin/kube-proxy')],
    'podnet': [part('kubectl', '/usr/bin/kubectl'), ours('podnet.sh', '/podnet.sh', 0o755)],
    'haproxy': [File('/usr/local/etc/haproxy/haproxy.cfg', data=HAPROXY_BOOT)],
    'prometheus': [File('/usr/bin/prometheus', source=os.path.join(PARTS, 'prometheus'), mode=0o755),
                   File('/prometheus', mode=0o777), File('/etc/prometheus/prometheus.yml', data=b'scrape_configs: []\n'),
                   File('/etc/prometheus/consoles/index.html', data=b''), File('/etc/prometheus/console_libraries/index.html', data=b'')],
    'agent': [File('/usr/local/bin/jenkins-agent', data=b'#!/bin/sh\necho "agent $JENKINS_AGENT_NAME is here"; exec sleep infinity\n', mode=0o755)],
}


def preload(registry):
    """The layer with the control plane's images in containerd's own folder, as published node images have it."""
    work = tempfile.mkdtemp()
    archive, root, sock = f'{work}/images.tar', f'{work}/containerd', f'{work}/c.sock'
    registry.archive({name: image_of(registry, at) for name, at in PRELOADED.items()}, archive)
    with open(f'{work}/c.toml', 'w') as file:
        file.write(f'version = 2\nroot = "{root}"\nstate = "{work}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                   f'[grpc]\naddress = "{sock}"\n')
    daemon = subprocess.Popen(['containerd', '--config', f'{work}/c.toml', '--log-level', 'error'])
    try:
        ctr = ['ctr', '-a', sock]
        for _ in range(100):
            if subprocess.run([*ctr, 'version'], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        subprocess.run([*ctr, '-n', 'k8s.io', 'images', 'import', '--no-unpack', archive], check=True, stdout=subprocess.DEVNULL)
    finally:
        daemon.terminate()
        daemon.wait()
    files = []
    for part_of in ('io.containerd.metadata.v1.bolt', 'io.containerd.content.v1.content/blobs'):
        for folder, _, names in sorted(os.walk(os.path.join(root, part_of))):
            for name in sorted(names):
                path = os.path.join(folder, name)
                files.append(File('/var/lib/containerd/' + os.path.relpath(path, root), source=path))
    made = registry.files(files)
    shutil.rmtree(work)
    return made


def image_of(registry, name):
    """The descriptor of an image's manifest for linux/amd64."""
    import json
    with open(registry.path(registry.resolve(name))) as file:
        return next(m for m in json.load(file)['manifests'] if m['platform']['architecture'] == 'amd64')


def main():
    shutil.rmtree(REGISTRY, ignore_errors=True)
    registry = Registry(REGISTRY)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {('tree', name): pool.submit(make, 'tree', name) for name in ('node', 'tools')}
        futures |= {('files', name): pool.submit(make, 'files', name) for name in LAYERS}
        made = {key: future.result() for key, future in futures.items()}
    node, tools = made['tree', 'node'], made['tree', 'tools']
    for name, (_, config) in PROGRAMS.items():
        registry.image([name], [made['files', name]], config)
    registry.image([f'kube-proxy:{KUBERNETES}'], [tools, made['files', 'kube-proxy']], {'Entrypoint': ['/usr/local/bin/kube-proxy'], 'Env': [PATH]})
    registry.image(['labimg-test/podnet:1'], [tools, made['files', 'podnet']], {'Entrypoint': ['/podnet.sh'], 'Env': [PATH]})
    registry.image(['kindest/haproxy:v20230606-42a2262b'], [tools, made['files', 'haproxy']],
                   {'Entrypoint': HAPROXY, 'Env': [PATH], 'StopSignal': 'SIGUSR1'})
    registry.image(['prom/prometheus:v3.5.0'], [tools, made['files', 'prometheus']],
                   {'Entrypoint': ['/bin/prometheus'], 'Env': [PATH], 'User': '65534', 'WorkingDir': '/prometheus',
                    'Cmd': ['--config.file=/etc/prometheus/prometheus.yml', '--storage.tsdb.path=/prometheus']})
    registry.image(['jenkins/inbound-agent:stand-in'], [tools, made['files', 'agent']],
                   {'Entrypoint': ['/usr/local/bin/jenkins-agent'], 'Env': [PATH]})
    for repository, (files, config) in STANDINS.items():
        registry.image([f'{repository}:stand-in'], [registry.files(files)], config)
    # Without preloaded images every one of them has to come through the mirror, before there is an API.
    registry.image([f'kindest/node:{KUBERNETES}-bare'], [node, made['files', 'node']], NODE_CONFIG)
    registry.image([f'kindest/node:{KUBERNETES}'], [node, made['files', 'node'], preload(registry)], NODE_CONFIG)


if __name__ == '__main__':
    main()
