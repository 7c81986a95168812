# What Vagrant would hand a lab's Vagrantfile, as far as it is used; what machines are told is noted. ARGV: its folder, `up`.
class Any
  def method_missing(name, *_args, **_more, &block)
    return super if name.to_s.start_with?("to_")
    block.call(Any.new) if block && name != :ruby
    self
  end
end

module Vagrant
  module Errors; class VagrantError < StandardError; end; end
  def self.configure(_)
    yield Any.new
  end
end

class Machine
  attr_accessor :id
  attr_reader :said, :files

  def initialize
    @id = "1"
    @said = []
    @files = []
  end

  def communicate
    self
  end

  def execute(text)
    @said << text
  end

  def sudo(text)
    @said << text
    yield :stdout, "ssh-ed25519 AAAA root@x\n" if text.start_with?("cat ")
  end

  def upload(from, to)
    raise "others can read #{from}" unless (File.stat(from).mode & 0o777) == 0o600
    @files << File.read(from)
  end

  def ssh_info
    { host: "127.0.0.1", port: 22, username: "vagrant" }
  end
end

def expect(what, truth)
  raise what unless truth
end

load File.join(ARGV.shift, "Vagrantfile")
hosts = Labimg::LAB["hosts"]
machines = hosts.map { Machine.new }
hosts.zip(machines).map { |host, machine| Thread.new { Labimg.settle(machine, host) } }.each(&:join)

secrets = Dir.glob(File.join(Labimg::STATE, "secrets", "*")).to_h { |file| [File.basename(file), File.read(file)] }
expect "two kinds: #{secrets}", secrets["password"] =~ /\A[A-Za-z0-9]{20}\z/ && secrets["pin"] =~ /\A[0-9a-f]{9}\z/
expect "a secret in a command", machines.none? { |m| secrets.values.any? { |text| m.said.join.include?(text) } }
expect "machines share secrets", machines.all? { |m| secrets.values.all? { |text| m.files.join.include?(text) } }
expect "one key", machines.map { |m| m.said.first }.uniq.size == 1
File.write(File.join(Labimg::STATE, "..", "settle"), machines.last.files.first)
urls = [Labimg.catalog("boxes/server-amd64.json"), File.read(File.join(Labimg::STATE, "boxes/server-amd64.json"))]
expect "blanks in #{urls}", urls.all? { |url| url.include?("file:///") && url.include?("a%20lab/") }

key = Labimg.key
File.delete(File.join(Labimg::STATE, "id_ed25519.pub"))
expect "the same key again", Labimg.key == key
Labimg.forget(machines[0], hosts[0])
expect "a machine that stays keeps its place", File.exist?(File.join(Labimg::STATE, "hosts", "#{hosts[0]["name"]}.json"))
machines.zip(hosts).each do |machine, host|
  expect "keys are gone too early", File.exist?(File.join(Labimg::STATE, "id_ed25519"))
  machine.id = nil
  Labimg.forget(machine, host)
end
expect "the last one takes all with it", !File.exist?(Labimg::STATE)
puts "done"
