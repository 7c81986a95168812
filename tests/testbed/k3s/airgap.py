"""airgap.py PAUSE: an archive as `docker save` writes it, like that of k3s's release, with the one image the stand-in wants: to standard output."""
import hashlib
import io
import json
import sys
import tarfile


def add(tar, name, data, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode='w', format=tarfile.USTAR_FORMAT) as inner, open(sys.argv[1], 'rb') as program:
    add(inner, 'pause', program.read(), 0o755)
layer = layer.getvalue()
config = json.dumps({
    'architecture': 'amd64', 'os': 'linux', 'created': '2025-01-01T00:00:00Z', 'config': {'Entrypoint': ['/pause']},
    'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + hashlib.sha256(layer).hexdigest()]},
}, sort_keys=True).encode()
name = hashlib.sha256(config).hexdigest() + '.json'
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.USTAR_FORMAT) as tar:
    add(tar, 'pause/layer.tar', layer)
    add(tar, name, config)
    add(tar, 'manifest.json', json.dumps([{'Config': name, 'RepoTags': ['rancher/mirrored-pause:3.6'], 'Layers': ['pause/layer.tar']}]).encode())
