# -*- mode: ruby -*-
# Written by labimg. `vagrant up` is all there is to type: the machines stand in lab.json, their boxes in boxes/, and nothing is
# fetched. What is secret (keys, tokens) is made here at the first `up`, in .vagrant/labimg/, for this copy of the lab alone.
require "fileutils"
require "json"
require "securerandom"
require "socket"

module Labimg
  HERE = File.expand_path(__dir__)
  LAB = JSON.parse(File.read(File.join(HERE, "lab.json")))
  STATE = File.join(File.expand_path(ENV["VAGRANT_DOTFILE_PATH"] || ".vagrant", HERE), "labimg")

  module_function

  # Whether this run may make something: `vagrant status` shall not leave keys behind.
  def making?
    !(ARGV & %w[up reload provision]).empty?
  end

  # Whole or not at all, and nobody else's to read.
  def write(name, text)
    path = File.join(STATE, name)
    FileUtils.mkdir_p(File.dirname(path), mode: 0o700)
    File.open("#{path}.new", File::WRONLY | File::CREAT | File::TRUNC, 0o600) { |file| file.write(text) }
    File.rename("#{path}.new", path)
    path
  end

  # A text made once per copy of the lab.
  def secret(name)
    path = File.join(STATE, "secrets", name)
    return File.read(path) if File.exist?(path)
    text = SecureRandom.alphanumeric(LAB["secrets"].fetch(name))
    write(File.join("secrets", name), text)
    text
  end

  # The key labimg logs in with, beside Vagrant's own: one that every SSH client takes.
  def key
    path = File.join(STATE, "id_ed25519")
    unless File.exist?(path)
      FileUtils.mkdir_p(STATE, mode: 0o700)
      done = system("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "labimg #{LAB["name"]}", "-f", path)
      raise Vagrant::Errors::VagrantError.new, "ssh-keygen did not make #{path}: install OpenSSH's client" unless done
    end
    File.read("#{path}.pub").strip
  end

  # Vagrant takes relative places in a catalog for relative to wherever it was started.
  def catalog(file)
    text = JSON.parse(File.read(File.join(HERE, file)))
    text["versions"].each do |version|
      version["providers"].each do |provider|
        box = File.join(HERE, File.dirname(file), provider["url"])
        provider["url"] = "file://#{box}"
      end
    end
    "file://#{write(file, JSON.pretty_generate(text))}"
  end

  # A port that somebody has would fail half-way; Vagrant's own check speaks of its internals.
  def check_ports
    LAB["hosts"].each do |host|
      next unless Dir.glob(File.join(File.dirname(STATE), "machines", host["name"], "*", "id")).empty?
      host["forward"].each do |forward|
        begin
          TCPServer.new("127.0.0.1", forward["local"]).close
        rescue SystemCallError => e
          raise Vagrant::Errors::VagrantError.new, "port #{forward["local"]} of this machine, which the lab leads to " \
            "#{host["name"]}:#{forward["guest"]}, can not be taken (#{e.message}): `ss -ltnp 'sport = :#{forward["local"]}'` says who has it"
        end
      end
    end
  end

  # What a machine is told once it runs: who may log in, and its secrets. Sent through the session, so that no process list shows it.
  def settle(machine, host)
    line = key
    machine.communicate.execute("umask 077; mkdir -p ~/.ssh; touch ~/.ssh/authorized_keys; grep -qxF '#{line}' ~/.ssh/authorized_keys || echo '#{line}' >> ~/.ssh/authorized_keys")
    script = ["umask 077", "mkdir -p /etc/labimg/secrets"]
    host["secrets"].each { |name| script << "printf %s '#{secret(name)}' > /etc/labimg/secrets/#{name}" }
    if host["k3s"]
      env = { "K3S_TOKEN" => secret("k3s-token"), "K3S_URL" => host["k3s"]["server"], "K3S_NODE_NAME" => host["name"] }
      lines = env.compact.map { |name, value| "#{name}=#{value}" }
      # k3s takes address and interface from the default route unless it is told by arguments; there are no variables for them.
      if host["ip"]
        script << "iface=$(ip -4 -o addr show to #{host["ip"]} | awk '{print $2; exit}')"
        lines << "LABIMG_K3S_ARGS=--node-ip=#{host["ip"]} --flannel-iface=$iface"
      end
      script << "printf '%s\\n' #{lines.map { |line| "\"#{line}\"" }.join(" ")} > /etc/labimg/k3s.env"
      script << "systemctl start --no-block #{host["k3s"]["unit"]}"
    end
    machine.communicate.sudo(script.join("\n"))
    remember(machine, host)
  end

  # Where `labimg verify` finds the machine, and by which key it knows it.
  def remember(machine, host)
    public_key = +""
    machine.communicate.sudo("cat /etc/ssh/ssh_host_ed25519_key.pub") { |kind, data| public_key << data if kind == :stdout }
    info = machine.ssh_info
    place = { "host" => info[:host], "port" => info[:port].to_i, "user" => info[:username],
              "host-key" => public_key.split.first(2).join(" ") }
    write(File.join("hosts", "#{host["name"]}.json"), JSON.pretty_generate(place))
  end

  def forget(host)
    FileUtils.rm_f(File.join(STATE, "hosts", "#{host["name"]}.json"))
    FileUtils.rm_rf(STATE) if Dir.glob(File.join(STATE, "hosts", "*.json")).empty?
  end
end

Vagrant.configure("2") do |config|
  Labimg.check_ports if Labimg.making?
  config.vm.box_check_update = false
  config.vm.synced_folder ".", "/vagrant", disabled: true
  # The order of preference where several are installed.
  Labimg::LAB["providers"].each { |name| config.vm.provider name }

  Labimg::LAB["hosts"].each do |host|
    config.vm.define host["name"] do |node|
      node.vm.hostname = host["name"]
      node.vm.box = host["box"]
      node.vm.box_version = host["version"]
      node.vm.box_url = Labimg.catalog(host["catalog"]) if Labimg.making?
      if host["ip"]
        node.vm.network :private_network, ip: host["ip"],
          libvirt__network_name: Labimg::LAB["network"], libvirt__forward_mode: "none", libvirt__dhcp_enabled: false
      end
      host["forward"].each do |forward|
        node.vm.network :forwarded_port, guest: forward["guest"], host: forward["local"], host_ip: "127.0.0.1"
      end
      node.vm.provider :libvirt do |v|
        v.memory = host["memory"]
        v.cpus = host["cores"]
      end
      node.vm.provider :virtualbox do |v|
        v.memory = host["memory"]
        v.cpus = host["cores"]
      end
      node.vm.provider "qemu" do |v|
        v.memory = "#{host["memory"]}M"
        v.smp = host["cores"].to_s
      end
      node.trigger.after :up, :reload, :provision do |trigger|
        trigger.name = "labimg"
        trigger.ruby { |_env, machine| Labimg.settle(machine, host) }
      end
      node.trigger.after :destroy do |trigger|
        trigger.name = "labimg"
        trigger.ruby { |_env, _machine| Labimg.forget(host) }
      end
    end
  end
end
