#!/usr/bin/env python3
"""up-by-hand.py BUNDLE NODES STATE OUT: what somebody without labimg would have written, out of a bundle.

OUT/kind.yaml (NODES' configuration without the mirror), OUT/NN-name.yaml and OUT/NN-name.wait in the order of `after`,
OUT/images (names to load), OUT/cluster.
"""
import json
import os
import sys
import tarfile
import tomllib

bundle, nodes, state, out = sys.argv[1:]
os.makedirs(out, exist_ok=True)
archive = tarfile.open(bundle)
read = lambda name: archive.extractfile(name).read()
index = json.loads(read('labimg/index.json'))
profile = tomllib.loads(read('labimg/profile.toml').decode())
blobs = {local['path']: local['digest'] for local in index['contents']['locals']}
blobs |= {file['name']: file['digest'] for file in index['contents']['files'] if file['kind'] == 'manifest'}
cluster = profile['cluster'][0]['name']
open(f'{out}/cluster', 'w').write(cluster)

for name in sorted(os.listdir(f'{nodes}/{cluster}')):
    if name.startswith('kind.'):
        text = open(f'{nodes}/{cluster}/{name}').read().replace(state, nodes)
        kind = json.loads(text)
for node in kind['nodes']:
    node['extraMounts'] = [m for m in node.get('extraMounts', []) if 'certs.d' not in m['containerPath']]
json.dump(kind, open(f'{out}/kind.yaml', 'w'))

names = [i['reference'] for i in index['contents']['images']]
engine = ('kindest/', 'labimg.lab/')
open(f'{out}/images', 'w').write('\n'.join(n for n in names if not any(e in n for e in engine)) + '\n')

manifests = {m['name']: m for m in profile.get('manifest', [])}
done, number, left = set(), 0, list(profile.get('deploy', []))
while left:
    deploy = next(d for d in left if set(d.get('after', [])) <= done)
    left.remove(deploy); done.add(deploy['name']); number += 1
    manifest = manifests[deploy['manifest']]
    text = manifest.get('text') or read('blobs/' + blobs[manifest.get('path', manifest['name'])].replace(':', '/')).decode()
    at = f"{out}/{number:02}-{deploy['name']}"
    open(f'{at}.yaml', 'w').write(text)
    namespace = deploy.get('namespace', 'default')
    waits = [f'{namespace} {r}' for r in deploy.get('ready', []) if r.split('/')[0] in ('deployment', 'daemonset', 'statefulset')]
    open(f'{at}.wait', 'w').write(f'{namespace}\n' + '\n'.join(waits) + '\n')
