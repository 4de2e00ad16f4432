"""Media that point elsewhere, and names that mean something elsewhere.

Nothing but the clip itself may be read: not `SECRET`, which they name, and no host. `URL` is one of this computer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from .encode import Pictures, Sound, encode
from .recipes import Recipe, content

SECRET = "elsewhere/secret.txt"  # below the folder of the corpus
SOUND = "elsewhere/secret.wav"
LINKED = "elsewhere/linked.txt"  # a link may lead out of the folder
URL = "http://127.0.0.1:9/secret.mp4"

PLAYLISTS = {
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{file}\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "playlist-key.m3u8": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{file}"\n#EXTINF:1,\n{sound}\n#EXT-X-ENDLIST\n',
    "playlist-map.m3u8": '#EXTM3U\n#EXT-X-MAP:URI="{sound}"\n#EXTINF:1,\n{sound}\n#EXT-X-ENDLIST\n',
    "playlist-subfile.m3u8": "#EXTM3U\n#EXTINF:1,\nsubfile,,start,0,end,9,,:{file}\n#EXT-X-ENDLIST\n",
    "playlist-concat.m3u8": "#EXTM3U\n#EXTINF:1,\nconcat:{file}|{url}\n#EXT-X-ENDLIST\n",
    "master.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{sound}'\nfile '{url}'\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    "stream.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet mimeType="audio/mp4">'
        '<Representation id="0" bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ),
    "entity.xml": '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file://{file}">]><a>&b;</a>',
    "entity.mpd": (
        '<?xml version="1.0"?><!DOCTYPE MPD [<!ENTITY b SYSTEM "file://{file}">]><MPD><Period>&b;</Period></MPD>'
    ),
    "laughs.xml": '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><a>&b;</a>',
    "picture.svg": (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink"><image x:href="{url}"/></svg>'
    ),
    "list.pls": "[playlist]\nFile1={sound}\nNumberOfEntries=1\n",
    "list.asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "list.ram": "{url}\n",
    "session.rtsp": "rtsp://127.0.0.1:9/x\n",
    "list.cue": 'FILE "{sound}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "manifest.ism": '<smil><body><switch><video src="{sound}"/></switch></body></smil>',
    "script.avs": 'WavSource("{sound}")\n',
    "script.vpy": "import os\n",
    "list.imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>',
    "filter.lavfi": "amovie={sound}\n",
    "image.txt": "{sound}",
}
NAMES = (
    *("im%d.mp4", "im%05d.png", "yt:id.mp4", "http:example.mp4", "pipe:0", "concat:a|b.mp4", "file:x.mp4", "-dash.mp4"),
    *("--help.mp4", "sp ace.mp4", "tab\there.mp4", "line\nbreak.mp4", "quote'\".mp4", "comma,semi;.mp4", "=1+1.mp4"),
    *("[b]mark[/b].mp4", "ünïcödé.mp4", "e\u0301.mp4", "\u202egnp.mp4", "日本語.mp4", "emoji🎬.mp4", "$(id).mp4"),
    *("`id`.mp4", "a&b.mp4", "#hash.mp4", "q?x=1.mp4", "back\\slash.mp4", "{brace}.mp4", "~tilde.mp4", "*star.mp4"),
    *(".hidden.mp4", "no-suffix", "esc\x1b[31mred.mp4", "bell\x07.mp4", "x" * 251 + ".mp4", "upper.MP4"),
    *("two.mp4.wav", "nul.mp4", "con.mp4", "a.h5"),
)


def elsewhere(folder: Path, seed: int) -> Iterator[Recipe]:
    """Yield playlists, links, things that are no files, and names."""
    places = {"file": folder / SECRET, "sound": folder / SOUND, "url": URL}
    yield content(SECRET, "secret: this file belongs to no clip\n")
    yield content(LINKED, "no media\n")
    yield Recipe(SOUND, lambda path: encode(path, "wav", Sound("pcm_s16le"), seed=seed))
    for name, text in PLAYLISTS.items():
        text = text.replace("{file}", str(places["file"])).replace("{sound}", str(places["sound"]))
        yield content(f"points-{name}", text.replace("{url}", URL))
        if name.endswith(("m3u8", "ffconcat")):
            yield content(f"points-{name}.mp4", text.replace("{url}", URL))
    yield Recipe("points-reference.mov", lambda path: _reference(path, places["sound"], seed))
    yield from _no_files()
    for name in NAMES:
        yield Recipe(f"names/{name}", lambda path: encode(path, "mp4", Pictures(num_frames=3), Sound(), seed=seed))


def _reference(path: Path, target: Path, seed: int) -> None:
    """Write a QuickTime file whose sound is said to be in another file."""
    encode(path, "mov", Pictures(num_frames=3), Sound("pcm_s16le"), seed=seed)
    data = path.read_bytes()
    alias = b"url \0\0\0\0" + f"file://{target}".encode() + b"\0"
    old = b"\0\0\0\x0curl \0\0\0\x01"
    path.write_bytes(data.replace(old, (len(alias) + 4).to_bytes(4, "big") + alias))


def _no_files() -> Iterator[Recipe]:
    """Yield links, pipes, sockets, devices."""
    targets = {"to-a-clip": "whole-h264.mp4", "to-a-link": "link-to-a-clip", "to-nothing": "nothing.mp4"}
    targets |= {"to-itself": "link-to-itself", "to-a-folder": "folder-usual", "to-a-pipe": "pipe.mp4"}
    targets |= {"to-zeros": "/dev/zero", "to-noise": "/dev/urandom", "to-null": "/dev/null", "to-full": "/dev/full"}
    targets |= {"to-memory": "/proc/self/mem", "to-processes": "/proc", "to-kernel": "/proc/kmsg", "to-tty": "/dev/tty"}
    targets |= {"to-stdin": "/dev/stdin", "to-text": LINKED, "to-root": "/", "to-environment": "/proc/self/environ"}
    for name, target in targets.items():
        yield Recipe(f"link-{name}", lambda path, target=target: path.symlink_to(target))
    yield Recipe("pipe.mp4", lambda path: os.mkfifo(path))
    yield Recipe("socket.mp4", _socket)
    yield Recipe("no-permission.mp4", lambda path: (path.write_bytes(b"x"), path.chmod(0)))
    yield Recipe("closed/inside.mp4", lambda path: (path.write_bytes(b"x"), path.parent.chmod(0)))


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as each:
        os.chdir(path.parent)
        each.bind(path.name)
