"""nginx as a plain proxy: the unit in which everything else is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from bench.install import Unavailable
from bench.processes import Launch
from bench.targets.target import Place
from bench.work import TENANT_KEY, VENDOR_KEY, bearer_request

# Debian keeps it where only root's PATH looks.
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

_CONFIGURATION = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  tcp_nodelay on;
  map_hash_bucket_size 128;
  map $http_authorization $known {{ default 0; "Bearer {tenant_key}" 1; }}
  upstream vendor {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      if ($known = 0) {{ return 401; }}
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {vendor_key}";
      proxy_buffering off;
      proxy_pass http://vendor;
    }}
  }}
}}
"""


class Nginx:
    """One worker; the tenant's key is exchanged for the vendor's; connections kept, nothing buffered."""

    name = "nginx"
    work = "plain proxy: one key checked and exchanged"

    @staticmethod
    def found() -> str | None:
        """Return where the program is, None when it is not installed."""
        return shutil.which("nginx", path=_SEARCH_PATH)

    def install(self, cache: Path) -> str:
        """Find it and return its version."""
        program = self.found()
        if program is None:
            raise Unavailable("nginx is the unit of every ratio: apt-get install nginx-light")
        told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr  # noqa: S603
        return told.strip().rpartition("/")[2]

    def launch(self, place: Place) -> Launch:
        """Write nginx.conf."""
        configuration = place.folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=place.folder,
                user="user root;" if os.geteuid() == 0 else "",
                tenant_key=TENANT_KEY,
                vendor_key=VENDOR_KEY,
                port=place.port,
                upstream_port=place.upstream_port,
            )
        )
        program = self.found() or "nginx"
        return Launch(
            (program, "-p", str(place.folder), "-c", str(configuration), "-e", str(place.folder / "error.log"))
        )

    def request(self, place: Place, *, stream: bool) -> bytes:
        """Return the call with the tenant's key."""
        return bearer_request(TENANT_KEY, stream=stream)
