"""Images written straight into the data folder of a plain registry (distribution's filesystem layout), without a daemon.

A layer is a gzipped tar whose bytes depend on its files only; a tag is an index: linux/amd64 is real, linux/arm64 a small
stand-in with the right platform, because profiles ask for both and only one can run here.
"""
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile

INDEX = 'application/vnd.oci.image.index.v1+json'
MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
CONFIG = 'application/vnd.oci.image.config.v1+json'
LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'


class File:
    """One entry of a layer: a file of this machine, bytes, a link or a folder."""

    def __init__(self, to, source=None, data=None, mode=0o644, link=None, uid=0):
        self.to, self.source, self.data, self.mode, self.link, self.uid = to.lstrip('/'), source, data, mode, link, uid

    def add(self, tar):
        entry = tarfile.TarInfo(self.to)
        entry.mode, entry.uid, entry.gid = self.mode, self.uid, self.uid
        if self.link is not None:
            entry.type, entry.linkname = tarfile.SYMTYPE, self.link
            tar.addfile(entry)
        elif self.source is not None:
            entry.size = os.path.getsize(self.source)
            with open(self.source, 'rb') as file:
                tar.addfile(entry, file)
        elif self.data is not None:
            entry.size = len(self.data)
            tar.addfile(entry, io.BytesIO(self.data))
        else:
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)


class Hashed:
    """Writes on, and knows the SHA-256 of what went through."""

    def __init__(self, out):
        self.out, self.hash, self.size = out, hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.size += len(data)
        return self.out.write(data)

    def flush(self):
        self.out.flush()

    @property
    def digest(self):
        return 'sha256:' + self.hash.hexdigest()


class Registry:
    """The `data` folder of a registry."""

    def __init__(self, folder):
        self.root = os.path.join(folder, 'docker/registry/v2')
        os.makedirs(os.path.join(self.root, 'blobs/sha256'), exist_ok=True)

    def path(self, digest):
        name = digest.split(':')[1]
        return os.path.join(self.root, 'blobs/sha256', name[:2], name, 'data')

    def _keep(self, temporary, digest):
        path = self.path(digest)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)

    def blob(self, data):
        """Keeps bytes; gives their descriptor without a media type."""
        digest = 'sha256:' + hashlib.sha256(data).hexdigest()
        with tempfile.NamedTemporaryFile(dir=self.root, delete=False) as out:
            out.write(data)
        self._keep(out.name, digest)
        return {'digest': digest, 'size': len(data)}

    def layer(self, write_tar):
        """Keeps a layer; `write_tar` gets the stream that its tar goes to. Gives its descriptor and the digest of the tar."""
        with tempfile.NamedTemporaryFile(dir=self.root, delete=False) as out:
            packed = Hashed(out)
            with gzip.GzipFile(filename='', fileobj=packed, mode='wb', compresslevel=1, mtime=0) as zipped:
                raw = Hashed(zipped)
                write_tar(raw)
        self._keep(out.name, packed.digest)
        return {'mediaType': LAYER, 'digest': packed.digest, 'size': packed.size}, raw.digest

    def files(self, files):
        """A layer of these files, in this order, each with the folders above it."""
        def write(out):
            seen = set()
            with tarfile.open(fileobj=out, mode='w|', format=tarfile.PAX_FORMAT) as tar:
                for file in files:
                    parts = file.to.split('/')
                    for depth in range(1, len(parts)):
                        folder = '/'.join(parts[:depth])
                        if folder not in seen:
                            seen.add(folder)
                            # Where the base has it already, unpackers keep what is below; modes are those of any root.
                            File(folder, mode=0o1777 if folder in ('tmp', 'var/tmp') else 0o755).add(tar)
                    seen.add(file.to)
                    file.add(tar)
        return self.layer(write)

    def tree(self, path):
        """A layer from a tar that is there."""
        def write(out):
            with open(path, 'rb') as source:
                shutil.copyfileobj(source, out, 1 << 20)
        return self.layer(write)

    def manifest(self, layers, config, arch='amd64'):
        """Keeps config and manifest; gives the manifest's descriptor."""
        about = {'architecture': arch, 'os': 'linux', 'created': '2025-01-01T00:00:00Z', 'config': config,
                 'rootfs': {'type': 'layers', 'diff_ids': [diff for _, diff in layers]},
                 'history': [{'created': '2025-01-01T00:00:00Z', 'created_by': 'testbed'} for _ in layers]}
        described = self.blob(json.dumps(about, sort_keys=True).encode())
        manifest = {'schemaVersion': 2, 'mediaType': MANIFEST, 'config': {'mediaType': CONFIG, **described},
                    'layers': [layer for layer, _ in layers]}
        platform = {'architecture': arch, 'os': 'linux', **({'variant': 'v8'} if arch == 'arm64' else {})}
        return {'mediaType': MANIFEST, **self.blob(json.dumps(manifest, sort_keys=True).encode()), 'platform': platform}

    def image(self, names, layers, config):
        """An image under `names` (repository:tag). Gives the descriptor of its linux/amd64 manifest."""
        real = self.manifest(layers, config)
        note = File('stand-in', data=f'stand-in for {names[0]} on linux/arm64\n'.encode())
        other = self.manifest([self.files([note])], {'Cmd': ['/stand-in'], 'Env': ['PATH=/usr/bin']}, 'arm64')
        index = self.blob(json.dumps({'schemaVersion': 2, 'mediaType': INDEX, 'manifests': [real, other]}, sort_keys=True).encode())
        for name in names:
            self.tag(name, index['digest'])
        return real

    def children(self, digest):
        """Digests of manifests and of blobs below a manifest or index."""
        with open(self.path(digest), 'rb') as file:
            manifest = json.load(file)
        manifests, blobs = [digest], []
        for child in manifest.get('manifests', []):
            below = self.children(child['digest'])
            manifests += below[0]
            blobs += below[1]
        for child in [manifest.get('config')] + manifest.get('layers', []):
            if child:
                blobs.append(child['digest'])
        return manifests, blobs

    def tag(self, name, digest):
        """Makes `name` mean `digest`, which may belong to another repository so far."""
        repository, tag = name.rsplit(':', 1)
        at = os.path.join(self.root, 'repositories', repository)
        manifests, blobs = self.children(digest)
        for child in manifests:
            self._link(f'{at}/_manifests/revisions/sha256/{child[7:]}/link', child)
        for child in blobs:
            self._link(f'{at}/_layers/sha256/{child[7:]}/link', child)
        self._link(f'{at}/_manifests/tags/{tag}/index/sha256/{digest[7:]}/link', digest)
        self._link(f'{at}/_manifests/tags/{tag}/current/link', digest)

    def _link(self, path, digest):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + '.new', 'w') as file:
            file.write(digest)
        os.replace(path + '.new', path)

    def resolve(self, name):
        """The digest a tag means."""
        repository, tag = name.rsplit(':', 1)
        with open(os.path.join(self.root, 'repositories', repository, f'_manifests/tags/{tag}/current/link')) as file:
            return file.read()

    def names(self):
        """Every repository:tag."""
        base, found = os.path.join(self.root, 'repositories'), []
        for folder, below, _ in os.walk(base):
            if '_manifests' in below:
                repository = os.path.relpath(folder, base)
                found += [f'{repository}:{tag}' for tag in os.listdir(os.path.join(folder, '_manifests/tags'))]
                below[:] = [name for name in below if not name.startswith('_')]
        return sorted(found)

    def archive(self, images, path):
        """An OCI archive for `ctr images import`: `images` maps full names to descriptors of manifests."""
        with tarfile.open(path, 'w', format=tarfile.USTAR_FORMAT) as tar:
            File('oci-layout', data=b'{"imageLayoutVersion":"1.0.0"}').add(tar)
            listed, seen = [], set()
            for name, descriptor in images.items():
                listed.append({**descriptor, 'annotations': {'io.containerd.image.name': name}})
                for digest in sum(self.children(descriptor['digest']), []):
                    if digest not in seen:
                        seen.add(digest)
                        File('blobs/sha256/' + digest[7:], source=self.path(digest)).add(tar)
            File('index.json', data=json.dumps({'schemaVersion': 2, 'manifests': listed}).encode()).add(tar)
