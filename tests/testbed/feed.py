"""feed.py IMAGES REGISTRY [--bare]: puts what `images` made over the stand-ins of the same name in a registry's data folder."""
import os
import sys

from oci import Registry

BARE = '-bare'
# Repositories of which one image serves every tag that a profile may name.
ANY_TAG = {'jaegertracing/all-in-one', 'otel/opentelemetry-collector', 'prom/prometheus'}
REAL, FED = Registry(sys.argv[1]), Registry(sys.argv[2])

for folder, _, files in os.walk(os.path.join(REAL.root, 'blobs')):
    to = os.path.join(FED.root, os.path.relpath(folder, REAL.root))
    for name in files:
        os.makedirs(to, exist_ok=True)
        path = os.path.join(to, name)
        if not os.path.exists(path):
            os.link(os.path.join(folder, name), path)

asked = FED.names()
for name in REAL.names():
    repository, tag = name.rsplit(':', 1)
    digest = REAL.resolve(name)
    bare = '--bare' in sys.argv and f'{name}{BARE}' in REAL.names()
    if tag == 'stand-in' or repository in ANY_TAG:
        for other in asked:
            if other.rsplit(':', 1)[0] == repository:
                FED.tag(other, digest)
    elif not tag.endswith(BARE):
        FED.tag(name, REAL.resolve(name + BARE) if bare else digest)
